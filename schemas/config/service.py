"""Types of the settings of a workstation that stays up: what ``mammo serve`` needs beside a run's config."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from schemas.config.section import ADDED_LATER, Config


class WebhookNotice(Config):
    """A JSON message by POST."""

    kind: Literal["webhook"] = Field(description="A JSON message by POST")
    url_file: Path = Field(description="0600 file that holds the address; an address is a secret")


class SlackNotice(Config):
    """A message in a Slack channel."""

    kind: Literal["slack"] = Field(description="A message in a Slack channel")
    url_file: Path = Field(description="0600 file that holds the incoming-webhook address")


class EmailNotice(Config):
    """An e-mail through SendGrid; a hospital's own relay is reached by a webhook."""

    kind: Literal["email"] = Field(description="An e-mail through SendGrid; a hospital's own relay is reached by a webhook")
    key_file: Path = Field(description="0600 file that holds the API key")
    sender: str = Field(description="Sender's address")
    recipients: tuple[str, ...] = Field(min_length=1, description="Addresses of those who are told")


Notice = Annotated[WebhookNotice | SlackNotice | EmailNotice, Field(discriminator="kind")]


class KubernetesPools(Config):
    """Work pools whose runs are pods, by ``deployments/work_pools/kubernetes.json``; the rest keeps its default."""

    cpu_image: str = Field(
        description="Container image of the worker pods: deployments/Dockerfile, target cpu, by a tag that stays"
    )
    gpu_image: str = Field(description="Image with CUDA (target cuda), for the GPU pool")
    namespace: str = Field("mammo", description="Kubernetes namespace of the pods")
    volume_claim: str = Field("mammo-data", description="A claim that all pods mount: inbox, workspaces, results")
    mount_path: PurePosixPath = Field(PurePosixPath("/data"), description="Folder at which the claim appears in every pod")
    auth_secret: str = Field("mammo", description="Kubernetes secret whose key prefect_auth is the server's auth string")
    service_account: str = Field(
        "mammo", description="Service account of the pods; may create DaskClusters if ingest.dask is of kind kubernetes"
    )
    memory: str = Field("16Gi", pattern=r"^\d+(Mi|Gi)$", description="Memory of a pod, request and limit")
    gpus: PositiveInt = Field(1, description="GPUs of a pod of the pool mammo-gpu")


class MetricsConfig(Config):
    """``/metrics`` for Prometheus, on this machine only: whoever asks from elsewhere comes through a proxy of yours."""

    port: int = Field(9464, ge=1024, le=65535, description="Port on 127.0.0.1")


class ServiceConfig(Config):
    """A workstation that watches its inbox and runs by the clock. ``mammo deploy`` leaves out what is of serve."""

    settle_s: float = Field(5.0, gt=0, description="Of serve: files have arrived when the inbox has not changed for this long")
    bucket_look_s: float = Field(
        60.0,
        gt=0,
        json_schema_extra=ADDED_LATER,
        description="Of serve: a bucket of exams is listed this often, to see whether some came; a request for every 1000",
    )
    longest_wait_s: float = Field(
        300.0, gt=0, description="Of serve: an inbox that never rests is told this often all the same"
    )
    gpu_slots: PositiveInt = Field(1, description="Tasks with the tag gpu that may run at the same time")
    runs_at_once: PositiveInt = Field(
        4, description="Of serve: flow runs that each worker executes at the same time; elsewhere its own --limit says that"
    )
    silence_s: int = Field(90, ge=31, description="A flow run that gave no sign of life for this long is marked crashed")
    scoring_stays: bool = Field(
        False, description="Of serve: keep a process with the network loaded, which answers mammo infer, of trained weights"
    )
    notice: Notice | None = Field(None, description="Who is told when a flow run fails or crashes; null = nobody")
    metrics: MetricsConfig | None = Field(None, description="Of serve: /metrics for Prometheus on 127.0.0.1; null = none")
    kubernetes: KubernetesPools | None = Field(None, description="Of deploy: runs are pods; null = processes of workers")
