"""Runs as pods and inside SLURM allocations: the templates are what Prefect, Kubernetes and SLURM accept, and harmless."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from deployments.server.prefect_server import PREFECT_DEFAULTS
from deployments.server.registration import CPU_POOL, GPU_POOL, KUBERNETES_TEMPLATE, kubernetes_template, register_services
from schemas.config.ingest import SlurmDask
from schemas.config.service import KubernetesPools, ServiceConfig
from schemas.errors import ConfigError
from tasks.adapters.cluster import open_cluster, run_all

SBATCH = KUBERNETES_TEMPLATE.with_name("slurm_worker.sbatch")
PODS = KubernetesPools(
    cpu_image="registry.ward/mammo:0.1.0-cpu",
    gpu_image="registry.ward/mammo:0.1.0-cuda",
    namespace="ward",
    memory="24Gi",
    gpus=2,
)


# ----------------------------------------------------------------------------------------------------------- Kubernetes


def rendered(template: dict[str, Any], **variables: Any) -> dict[str, Any]:
    """The job manifest that a worker makes of the template and a deployment's job variables."""
    from prefect.settings import PREFECT_API_URL, temporary_settings
    from prefect.workers.base import BaseJobConfiguration

    class Manifest(BaseJobConfiguration):
        job_manifest: dict[str, Any]

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):  # a client is made, and asks nothing
        values = {"name": "run", "command": "prefect", **variables}
        job = asyncio.run(Manifest.from_template_and_values(template, values)).job_manifest
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["args"] = container["args"].split()  # as the Kubernetes worker does
    return job


def pod_schema() -> dict[str, Any]:
    """Kubernetes' own schema of a PodSpec, as the Dask operator's resource quotes it."""
    import dask_kubernetes

    folder = Path(dask_kubernetes.__file__).parent / "operator/deployment/helm/dask-kubernetes-operator/crds"
    crd = yaml.safe_load((folder / "daskcluster.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found: dict[str, Any] = schema["properties"]["spec"]["properties"]["worker"]["properties"]["spec"]
    return found


@pytest.mark.parametrize(("pool", "image", "gpus"), [(CPU_POOL, PODS.cpu_image, "0"), (GPU_POOL, PODS.gpu_image, "2")])
def test_a_pod_is_what_kubernetes_accepts_and_can_do_no_harm(pool: str, image: str, gpus: str) -> None:
    """Nobody's user, read-only root, no capabilities, the secret as a file, memory and GPUs limited; the claim is mounted."""
    from jsonschema import Draft7Validator

    pod = rendered(kubernetes_template(pool, PODS), labels={"a": "b"})["spec"]["template"]["spec"]
    validator = Draft7Validator(pod_schema())
    assert not list(validator.iter_errors(pod))
    assert list(validator.iter_errors({**pod, "containers": [{**pod["containers"][0], "args": 1}]})), "it refuses nothing"
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"} and pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    assert container["image"] == image
    safe = {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert container["securityContext"] == safe
    assert container["resources"]["limits"] == {"memory": "24Gi", "nvidia.com/gpu": gpus}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["data"]["mountPath"] == "/data" and mounts["scratch"]["mountPath"] == "/tmp"  # noqa: S108
    assert mounts["secrets"] == {"name": "secrets", "mountPath": "/run/secrets", "readOnly": True}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["data"]["persistentVolumeClaim"] == {"claimName": "mammo-data"} and "emptyDir" in volumes["scratch"]
    assert volumes["secrets"]["secret"] == {
        "secretName": "mammo",
        "defaultMode": 0o440,
        "items": [{"key": "prefect_auth", "path": "prefect_auth"}],
    }
    entrypoint = KUBERNETES_TEMPLATE.parent.with_name("entrypoint.sh").read_text()
    assert "MAMMO_SECRETS_DIR:-/run/secrets" in entrypoint and "$secrets/prefect_auth" in entrypoint


def test_the_form_of_a_pool_refuses_what_a_pod_could_not_be() -> None:
    """Its variables are a valid JSON schema whose defaults are right by it; a tag that moves and half a GPU are not."""
    from jsonschema import Draft202012Validator

    template = json.loads(KUBERNETES_TEMPLATE.read_text())
    variables = template["variables"]
    Draft202012Validator.check_schema(variables)
    validator = Draft202012Validator(variables)
    defaults = {name: about["default"] for name, about in variables["properties"].items() if "default" in about}
    assert not list(validator.iter_errors(defaults))
    for wrong in (
        {"gpus": 0.5},
        {"gpus": -1},
        {"image": "mammo:latest"},
        {"image": "mammo"},
        {"memory": "16 GB"},
        {"mount_path": "x"},
    ):
        assert list(validator.iter_errors({**defaults, **wrong})), wrong
    assert not [name for name, about in variables["properties"].items() if not about.get("title")]


def test_prefects_own_kubernetes_worker_takes_the_template() -> None:
    """Its checks of the manifest pass; the job has the run's command and settings, and no auth string in its environment."""
    worker = pytest.importorskip("prefect_kubernetes.worker", reason="prefect-kubernetes is not installed")
    from prefect.client.schemas.objects import FlowRun
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_AUTH_STRING: "mammo:SECRET", PREFECT_API_URL: "http://server:4200/api"}):
        configuration = asyncio.run(
            worker.KubernetesWorkerJobConfiguration.from_template_and_values(kubernetes_template(GPU_POOL, PODS), {})
        )
        configuration.prepare_for_flow_run(FlowRun(id=uuid4(), name="ingest-ward", flow_id=uuid4()))
    job = configuration.job_manifest
    (container,) = job["spec"]["template"]["spec"]["containers"]
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert "SECRET" not in json.dumps(job) and "PREFECT_API_AUTH_STRING" not in environment
    assert environment["PREFECT_RESULTS_LOCAL_STORAGE_PATH"] == "/data/prefect-results"
    assert environment["PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"] == "reschedule"  # an evicted run is scheduled again
    assert container["args"][-2:] == ["flow-run", "execute"] and job["metadata"]["namespace"] == "ward"
    assert job["metadata"]["generateName"].startswith("ingest-ward")


def test_pools_of_pods_are_registered_and_another_type_is_refused(prefect_api: str) -> None:
    """The server takes the template; twice changes nothing; a pool of processes under that name stays what it is."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for name in (CPU_POOL, GPU_POOL):
            assert not [pool for pool in client.read_work_pools() if pool.name == name], "another test's pools are there"
        try:
            for _ in range(2):
                asyncio.run(register_services(ServiceConfig(kubernetes=PODS)))
            pool = client.read_work_pool(GPU_POOL)
            assert pool.type == "kubernetes" and pool.base_job_template == kubernetes_template(GPU_POOL, PODS)
            with pytest.raises(ConfigError, match="prefect work-pool delete mammo-cpu"):
                asyncio.run(register_services(ServiceConfig()))
            assert client.read_work_pool(CPU_POOL).type == "kubernetes"
        finally:
            for pool in client.read_work_pools():
                client.delete_work_pool(pool.name)


# ---------------------------------------------------------------------------------------------------------------- SLURM

FLOW = '''
"""Says where it is, and stays as long as it is told to."""
import json, os, time
from pathlib import Path
from prefect import flow

@flow
def where(folder: str, seconds: float) -> None:
    names = ("SLURM_JOB_ID", "PREFECT_API_AUTH_STRING", "PREFECT_RESULTS_LOCAL_STORAGE_PATH")
    (Path(folder) / "part").write_text(json.dumps({"pid": os.getpid(), **{name: os.environ.get(name) for name in names}}))
    (Path(folder) / "part").rename(Path(folder) / f"{seconds:.0f}.json")
    time.sleep(seconds)
'''


def test_the_slurm_script_has_the_settings_of_the_command() -> None:
    """Valid bash; what it exports is what ``mammo`` sets; SLURM speaks to the script before it kills."""
    script = SBATCH.read_text()
    subprocess.run(["bash", "-n", str(SBATCH)], check=True)
    exported = dict(
        part.split("=", 1) for line in script.splitlines() if line.startswith("export ") for part in line.split()[1:]
    )
    for name, value in exported.items():
        assert PREFECT_DEFAULTS.get(name, value) == value, name
    assert {"PYTHONSAFEPATH", "DO_NOT_TRACK", "PREFECT_LOGGING_EXTRA_LOGGERS", "PREFECT_RESULTS_DEFAULT_SERIALIZER"} <= set(
        exported
    )
    assert "#SBATCH --signal=B:TERM@120" in script.splitlines() and "#SBATCH --requeue" in script.splitlines()


@pytest.mark.e2e
@pytest.mark.long
def test_a_worker_in_an_allocation_executes_runs_and_leaves_when_slurm_says_so(
    prefect_api: str, tmp_path: Path, until: Callable[..., bool]
) -> None:
    """On a real one-node SLURM: a run is executed inside the job. Told to end, run and worker end and the job queues again."""
    from prefect import flow
    from prefect.client.orchestration import get_client

    (tmp_path / "where.py").write_text(FLOW)
    (tmp_path / "auth").write_text("mammo:word")
    with slurm() as environment, get_client(sync_client=True) as client:
        loaded: Any = flow.from_source(str(tmp_path), entrypoint="where.py:where")
        create = [sys.executable, "-m", "prefect", "work-pool", "create", "slurm-test", "--type", "process", "--overwrite"]
        subprocess.run(create, check=True, capture_output=True, env={**os.environ, "PREFECT_API_URL": prefect_api})
        deployment_id = loaded.deploy("where", work_pool_name="slurm-test", print_next_steps=False)
        given = {"PREFECT_API_URL": prefect_api, "MAMMO_WORKSPACE": str(tmp_path), "MAMMO_AUTH_FILE": str(tmp_path / "auth")}
        small = ["--parsable", "--cpus-per-task=1", "--mem=500M", f"--output={tmp_path}/job.log"]
        said = subprocess.run(
            ["sbatch", *small, str(SBATCH), "slurm-test"],
            env={**environment, **given},
            check=True,
            capture_output=True,
            text=True,
        )
        job = said.stdout.strip()
        for seconds in (0, 600):
            run = client.create_flow_run_from_deployment(
                deployment_id, parameters={"folder": str(tmp_path), "seconds": seconds}
            )
            assert until((tmp_path / f"{seconds}.json").exists, timeout_s=180), (tmp_path / "job.log").read_text()
        told = json.loads((tmp_path / "600.json").read_text())
        assert (told["SLURM_JOB_ID"], told["PREFECT_API_AUTH_STRING"]) == (job, "mammo:word")
        assert told["PREFECT_RESULTS_LOCAL_STORAGE_PATH"] == f"{tmp_path}/prefect/results"
        subprocess.run(["scancel", "--batch", "--signal=TERM", job], env=environment, check=True)  # what --signal=B:TERM does

        def shown() -> str:
            command = ["scontrol", "show", "job", job]
            return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout

        assert until(lambda: "Restarts=1" in shown() and "JobState=PENDING" in shown(), timeout_s=120), shown()
        assert not Path(f"/proc/{told['pid']}").exists()
        assert until(lambda: (state := client.read_flow_run(run.id).state) is not None and state.is_crashed(), timeout_s=60)
        subprocess.run(["scancel", job], env=environment, check=True)


@pytest.mark.e2e
@pytest.mark.long
def test_ingests_workers_are_jobs_of_a_real_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``ingest.dask.kind: slurm`` on the same one-node SLURM: its worker is a job, works, and leaves."""

    def job_and_square(number: int) -> tuple[str | None, int]:  # travels by value: a job cannot import this module
        import os

        return os.environ.get("SLURM_JOB_ID"), number * number

    with slurm() as environment:
        monkeypatch.setenv("SLURM_CONF", environment["SLURM_CONF"])
        monkeypatch.chdir(tmp_path)  # the job's log
        config = SlurmDask(kind="slurm", queue="all", jobs=1, cores=1, memory="900MiB", walltime_min=30)
        with open_cluster(config) as address:
            assert sorted(run_all(address, job_and_square, [1, 2, 3])) == [("1", 1), ("1", 4), ("1", 9)]
        left = subprocess.run(
            ["squeue", "-h", "-t", "RUNNING,PENDING"], env=environment, capture_output=True, text=True, check=True
        )
        assert not left.stdout.strip()


@contextmanager
def slurm() -> Iterator[dict[str, str]]:
    """One node, this machine; the environment that speaks to it."""
    if os.geteuid() != 0 or not all(shutil.which(name) for name in ("munged", "slurmctld", "slurmd", "sbatch")):
        pytest.skip("SLURM is not installed (apt-get install slurmctld slurmd slurm-client munge), or the user is not root")
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="mammo-slurm-"))  # a socket's path must be short
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    configuration = folder / "slurm.conf"
    configuration.write_text(slurm_conf(folder))
    active = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # as in a shell with the environment of ``mammo``
    environment = {**os.environ, "PATH": active, "SLURM_CONF": str(configuration)}
    munge = [
        "--key-file=munge.key",
        "--socket=munge.socket",
        "--pid-file=munge.pid",
        "--log-file=munge.log",
        "--seed-file=munge.seed",
    ]
    with ExitStack() as running:
        running.callback(shutil.rmtree, folder, ignore_errors=True)
        for command in (
            ["munged", "--force", "-F", *(f"{each.replace('=', f'={folder}/')}" for each in munge)],
            ["slurmctld", "-D"],
            ["slurmd", "-D"],
        ):
            log = running.enter_context((folder / f"{command[0]}.out").open("w"))
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            running.callback(process.wait, timeout=30)
            running.callback(process.send_signal, signal.SIGTERM)
        yield environment


def slurm_conf(folder: Path) -> str:
    """The least that a controller and a node need."""
    with socket.socket() as first, socket.socket() as second:
        for probe in (first, second):
            probe.bind(("127.0.0.1", 0))
        ports = first.getsockname()[1], second.getsockname()[1]
    host = socket.gethostname().split(".")[0]
    return "\n".join(
        [
            "ClusterName=one",
            f"SlurmctldHost={host}(127.0.0.1)",
            f"SlurmctldPort={ports[0]}",
            f"SlurmdPort={ports[1]}",
            f"AuthInfo=socket={folder}/munge.socket",
            "SlurmUser=root",
            f"StateSaveLocation={folder}/state",
            f"SlurmdSpoolDir={folder}/spool",
            f"SlurmctldPidFile={folder}/ctld.pid",
            f"SlurmdPidFile={folder}/slurmd.pid",
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_Core_Memory",
            f"NodeName={host} NodeAddr=127.0.0.1 CPUs=1 RealMemory=1000 State=UNKNOWN",
            f"PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP",
            "",
        ]
    )
