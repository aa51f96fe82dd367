"""The stall watch tells a cluster that is slow from one that does nothing; what a client says is taken as it is."""

import pytest

from streamgmm.execution import cluster
from streamgmm.execution.cluster import _Watch, get_workers


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


class Client:
    """Answers what its tasks are, one answer for each look; an error is raised."""

    class scheduler:  # noqa: N801
        processing = None

    def __init__(self, answers):
        self.answers = iter(answers)

    def sync(self, *_, **__):
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(cluster, "time", clock)
    return clock


def looks(watch, clock, n, seconds=4.0):
    for _ in range(n):
        clock.now += seconds
        watch.look()


def test_tasks_that_change_are_signs_that_it_works(clock):
    watch = _Watch(Client([{"a": [1]}, {"a": [2]}, {"a": [3]}, {"a": [4]}]), patience=5.0)
    looks(watch, clock, 4)


def test_the_same_tasks_for_too_long_are_a_stall(clock):
    watch = _Watch(Client([{"a": [1]}] * 5), patience=10.0)
    looks(watch, clock, 3)
    with pytest.raises(TimeoutError, match="no task began or ended in 10 s"):
        looks(watch, clock, 1)


@pytest.mark.parametrize("nothing", [{}, {"a": []}, OSError("no answer")])
def test_no_worker_no_task_and_no_answer_are_stalls_too(clock, nothing):
    watch = _Watch(Client([nothing] * 5), patience=10.0)
    with pytest.raises(TimeoutError):
        looks(watch, clock, 4)


def test_a_value_that_comes_counts_though_the_tasks_look_the_same(clock):
    watch = _Watch(Client([{"a": [1]}] * 6), patience=10.0)
    for _ in range(3):
        looks(watch, clock, 2)
        watch.alive()


def test_the_order_in_which_a_scheduler_names_tasks_is_no_change(clock):
    watch = _Watch(Client([{"a": [1, 2]}, {"a": [2, 1]}, {"a": [1, 2]}, {"a": [2, 1]}]), patience=10.0)
    with pytest.raises(TimeoutError):
        looks(watch, clock, 4)


def identity(*workers):
    """A client whose scheduler has these workers: threads, limit, memory in use."""
    answer = {
        "workers": {
            str(number): {"nthreads": threads, "memory_limit": limit, "metrics": {"memory": used}}
            for number, (threads, limit, used) in enumerate(workers)
        }
    }
    client = Client([answer])
    client.scheduler.identity = None
    return client


def test_the_workers_are_summed_up_and_the_lowest_limit_counts():
    found = get_workers(identity((2, 1000, 400), (1, 500, 700)))
    assert (found.n_workers, found.n_threads, found.memory_limit, found.free_memory) == (2, 3, 500, 600)


def test_without_a_limit_nobody_knows_what_is_free():
    found = get_workers(identity((2, 1000, 400), (1, 0, 700)))
    assert (found.memory_limit, found.free_memory) == (1000, 0)
    none = get_workers(identity())
    assert (none.n_workers, none.n_threads, none.memory_limit, none.free_memory) == (0, 0, None, 0)


def test_a_closed_client_is_an_error_of_the_system():
    client = identity()
    client.scheduler = None
    with pytest.raises(OSError, match="closed"):
        get_workers(client)
