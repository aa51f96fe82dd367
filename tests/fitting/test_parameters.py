"""One table of parameters: the estimator's signature, the families and the command line agree with it."""

import inspect
from dataclasses import fields

import pytest

from streamgmm import GaussianMixture
from streamgmm.exceptions import InputError
from streamgmm.fitting.parameters import PARAMETERS, check_parameters
from streamgmm.fitting.settings import Settings
from streamgmm.gaussian.covariances import FAMILIES

DEFAULTS = {name: one.default for name, one in inspect.signature(GaussianMixture).parameters.items()}


def test_the_table_has_the_parameters_of_the_estimator_in_their_order():
    assert list(PARAMETERS) == list(DEFAULTS)


def test_the_defaults_are_admitted():
    check_parameters(DEFAULTS)


def test_the_families_are_those_that_there_are():
    assert PARAMETERS["covariance_type"].kind.options == tuple(FAMILIES)


@pytest.mark.parametrize("init_params", PARAMETERS["init_params"].kind.options)
def test_every_kind_of_start_makes_one(init_params, x):
    assert GaussianMixture(2, init_params=init_params, max_iter=0, random_state=0).fit(x[:200]).n_iter_ == 0


def test_every_setting_of_a_fit_is_a_parameter_and_says_whether_it_identifies_the_fit():
    of_its_own = {"given", "seed", "seed_given"}
    assert {one.name for one in fields(Settings)} - of_its_own <= set(PARAMETERS)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_components", 0, "n_components must be an integer of at least 1, got 0"),
        ("n_components", True, "n_components must be an integer"),
        ("max_iter", -1, "max_iter must be an integer of at least 0"),
        ("tol", float("nan"), "tol must be a finite number of at least 0"),
        ("tol", "auto", "tol must be a finite number"),
        ("reg_covar", "Auto", "reg_covar must be one of 'auto'; got 'Auto'"),
        ("reg_covar", -1.0, "reg_covar must be a finite number of at least 0"),
        ("covariance_type", "round", "covariance_type must be one of 'full', 'tied', 'diag', 'spherical'; got 'round'"),
        ("accelerate", "yes", "accelerate must be True, False or 'auto'"),
        ("persist", 1, "persist must be True, False or 'auto'"),
        ("memory_limit", "much", "memory_limit must be bytes"),
        ("callback", 3, "callback must be callable or None"),
        ("resume", "must", "resume='must' needs checkpoint="),
    ],
)
def test_a_value_that_is_not_admitted_is_named(name, value, message):
    with pytest.raises(InputError, match=message):
        check_parameters({**DEFAULTS, name: value})
