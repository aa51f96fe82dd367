"""What is in cluster_configs/ is what each system understands, as far as that can be told without the system."""

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import dask.config
import distributed
import pytest
import yaml

from streamgmm.storage.retries import DEFAULTS as OURS

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "cluster_configs"
DASK = CONFIGS / "dask"
DEFAULTS = Path(distributed.__file__).parent / "distributed.yaml"


def leaves(tree, path=()):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def test_every_key_is_one_of_dasks():
    known = {path for path, _ in leaves(yaml.safe_load(DEFAULTS.read_text()))}
    known |= {("streamgmm", name) for name in OURS}
    for path, _ in leaves(yaml.safe_load((DASK / "streamgmm.yaml").read_text())):
        if path[:3] == ("distributed", "nanny", "pre-spawn-environ"):
            continue  # environment variables, of any name
        assert path in known, f"{'.'.join(path)} is no setting of distributed"


def test_our_settings_are_shown_at_their_defaults():
    assert yaml.safe_load((DASK / "streamgmm.yaml").read_text())["streamgmm"] == OURS


_START = """
from dask.distributed import Client, LocalCluster
import os
def seen():
    import dask
    return [os.environ.get("OPENBLAS_NUM_THREADS"), dask.config.get("distributed.admin.tick.interval")]
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        with Client(cluster) as client:
            print(*client.run(seen).values())
"""


def test_a_cluster_starts_with_it(tmp_path):
    (tmp_path / "start.py").write_text(_START)
    # A copy: packages that have settings of their own write them into that folder.
    environment = {**os.environ, "DASK_CONFIG": str(shutil.copytree(DASK, tmp_path / "dask"))}
    command = [sys.executable, str(tmp_path / "start.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "['1', '1s']"


def test_it_is_read_as_dask_reads_it():
    config = dask.config.collect(paths=[str(DASK)], env={})
    assert config["distributed"]["nanny"]["pre-spawn-environ"]["OMP_NUM_THREADS"] == 1


def test_every_file_has_its_place_in_the_readme():
    readme = (CONFIGS / "README.md").read_text()
    for path in CONFIGS.rglob("*"):
        if path.is_file() and path.name != "README.md" and "__pycache__" not in path.parts:
            assert path.name in readme, f"{path.relative_to(ROOT)} is in no page"


def test_what_the_readme_names_is_there():
    readme = (CONFIGS / "README.md").read_text()
    for name in set(re.findall(r"cluster_configs/[\w./-]*\w", readme)):
        assert (ROOT / name).exists(), name
    for block in re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL):
        ast.parse(block)


@pytest.mark.parametrize("path", [*CONFIGS.rglob("*.sh")], ids=lambda path: path.name)
def test_shell_scripts_parse(path):
    subprocess.run(["bash", "-n", str(path)], check=True, timeout=30)
    assert os.access(path, os.X_OK)


# Batch systems

#: What each system's script must say of cores, memory and time.
DIRECTIVES = {
    "slurm": [r"#SBATCH --cpus-per-task=16", r"#SBATCH --mem=4[45]G", r"#SBATCH -t 02:00:00"],
    "pbs": [r"#PBS -l select=1:ncpus=16:mem=4[45]GB", r"#PBS -l walltime=02:00:00"],
    "sge": [r"#\$ -pe smp 16", r"#\$ -l h_vmem=3G", r"#\$ -l h_rt=02:00:00"],
    "lsf": [r"#BSUB -n 16", r"#BSUB -M 48", r"#BSUB -W 02:00", r'#BSUB -R "span\[hosts=1\]"'],
}


@pytest.mark.parametrize("system", list(DIRECTIVES))
def test_job_scripts(system, tmp_path):
    jobqueue = pytest.importorskip("dask_jobqueue")
    command = [sys.executable, str(CONFIGS / "jobqueue" / "fit.py"), system, "--show-job"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    script = tmp_path / "job.sh"
    script.write_text(done.stdout)
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=30)
    for directive in DIRECTIVES[system]:
        assert re.search(f"^{directive}", done.stdout, flags=re.MULTILINE), (directive, done.stdout)
    for words in ("OPENBLAS_NUM_THREADS=1", "--nworkers 16", "--nthreads 1", "--lifetime 110m", "--death-timeout 300"):
        assert words in done.stdout
    assert "None" not in done.stdout
    defaults = yaml.safe_load((Path(jobqueue.__file__).parent / "jobqueue.yaml").read_text())["jobqueue"]
    ours = yaml.safe_load((CONFIGS / "jobqueue" / "jobqueue.yaml").read_text())["jobqueue"]
    assert set(ours[system]) <= set(defaults[system])


# Kubernetes

KUBERNETES = [
    (path, document)
    for path in sorted((CONFIGS / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]


def closed(schema):
    """A schema under which fields that it does not name are errors, as `kubectl --validate=strict` has it."""
    if isinstance(schema, dict):
        schema = {key: closed(value) for key, value in schema.items()}
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        return schema
    return [closed(one) for one in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize(("path", "document"), KUBERNETES, ids=lambda one: getattr(one, "name", ""))
def test_kubernetes_manifests(path, document):
    if document["apiVersion"] == "kubernetes.dask.org/v1":
        assert list(errors_of_custom_resource(document)) == []
        return
    validate = pytest.importorskip("kubernetes_validate")
    for version in ("1.29", "1.33", "1.35"):
        validate.validate(document, version, strict=True)


def errors_of_custom_resource(document):
    jsonschema = pytest.importorskip("jsonschema")
    found = importlib.util.find_spec("dask_kubernetes")
    if found is None:
        # It needs packages that don't go with those of the object stores: CI installs it without them.
        pytest.skip("needs the operator's resource definitions: pip install --no-deps dask-kubernetes")
    helm = Path(found.origin).parent / "operator" / "deployment" / "helm" / "dask-kubernetes-operator" / "crds"
    definition = yaml.safe_load((helm / f"{document['kind'].lower()}.yaml").read_text())
    (version,) = [one for one in definition["spec"]["versions"] if one["name"] == "v1"]
    schema = closed(version["schema"]["openAPIV3Schema"])
    # What every resource has, and definitions need not repeat.
    for name in ("apiVersion", "kind", "metadata"):
        schema["properties"].setdefault(name, {})
    for error in jsonschema.Draft202012Validator(schema).iter_errors(document):
        yield f"{'/'.join(map(str, error.absolute_path))}: {error.message}"


def test_a_field_that_kubernetes_does_not_know_is_found():
    (cluster,) = [document for _, document in KUBERNETES if document["kind"] == "DaskCluster"]
    wrong = json.loads(json.dumps(cluster))
    wrong["spec"]["worker"]["spec"]["containers"][0]["imagePullPolcy"] = "Always"
    assert any("imagePullPolcy" in error for error in errors_of_custom_resource(wrong))
    validate = pytest.importorskip("kubernetes_validate")
    (job,) = [json.loads(json.dumps(document)) for _, document in KUBERNETES if document["kind"] == "CronJob"]
    job["spec"]["jobTemplate"]["spec"]["backofLimit"] = 1
    with pytest.raises(validate.ValidationError, match="backofLimit"):
        validate.validate(job, "1.33", strict=True)


def test_the_manifests_fit_together():
    by_kind = {document["kind"]: document for _, document in KUBERNETES}
    cluster, job = by_kind["DaskCluster"], by_kind["CronJob"]
    name = cluster["metadata"]["name"]
    assert by_kind["DaskAutoscaler"]["spec"]["cluster"] == name
    fit = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert f"tcp://{name}-scheduler:8786" in fit["args"]
    worker = cluster["spec"]["worker"]["spec"]["containers"][0]
    scheduler = cluster["spec"]["scheduler"]["spec"]["containers"][0]
    # The same packages everywhere, and every secret there is.
    assert fit["image"] == worker["image"] == scheduler["image"]
    assert fit["envFrom"] == worker["envFrom"]


def test_the_jobs_command_is_one_of_ours():
    (job,) = [document for _, document in KUBERNETES if document["kind"] == "CronJob"]
    compose = yaml.safe_load((CONFIGS / "docker" / "compose.yaml").read_text())
    for args in (
        job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"],
        compose["services"]["fit"]["command"],
    ):
        from streamgmm.cli.fit import fit

        assert args[:2] == ["streamgmm", "fit"]
        with fit.make_context("fit", list(args[2:])) as context:
            assert context.params["checkpoint"]


# Docker


def test_compose_file():
    jsonschema = pytest.importorskip("jsonschema")
    pytest.importorskip("check_jsonschema")
    vendored = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(vendored.read_text())
    compose = yaml.safe_load((CONFIGS / "docker" / "compose.yaml").read_text())
    jsonschema.validate(compose, schema)
    compose["services"]["fit"]["restrat"] = "no"
    with pytest.raises(jsonschema.ValidationError, match="restrat"):
        jsonschema.validate(compose, schema)
    build = compose["services"]["scheduler"]["build"]
    context = (CONFIGS / "docker" / build["context"]).resolve()
    assert (context / build["dockerfile"]).is_file()


def test_dockerfile():
    text = re.sub(r"\\\n", " ", (CONFIGS / "docker" / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert {line.split()[0] for line in lines} == {"FROM", "COPY", "RUN", "ENV", "USER", "WORKDIR", "CMD"}
    for line in lines:
        if line.startswith("COPY"):
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
