"""Every verb of ``mammo`` as a row: what it says, in which group, which flags it takes, and how a service runs it.

``cli`` makes the commands from these rows, ``server.registration`` the deployments, and ``docs/reference/commands.md`` is
written from them. A verb without ``runs`` is a flow: ``flows/<name>.py`` with a function of the same name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from deployments.verb import Deployment, Flag, Schedule, Verb
from schemas.config.run import Stage

MAIN_JOB: Final = "The main job"
ONE_STAGE: Final = "One stage of it"
NETWORK: Final = "More than one network, and the paper"
UPKEEP: Final = "The store and what was refused"
SERVICE: Final = "A service, and runs of the past"
MACHINE: Final = "This machine and its files"
GROUPS: Final = (MAIN_JOB, ONE_STAGE, NETWORK, UPKEEP, SERVICE, MACHINE)


def _completed(flow: str) -> dict[str, Any]:
    """The event of a flow's run that ended well."""
    run, related = "prefect.flow-run", {"prefect.resource.role": "flow", "prefect.resource.name": flow}
    return {"match": {"prefect.resource.id": f"{run}.*"}, "match_related": related, "expect": [f"{run}.Completed"]}


FROM_SCRATCH: Final = Flag(
    option="--from-scratch",
    help="Begin with random weights although the config names files, or pre-training, to begin with",
    kind=bool,
    config_key="train.start.from_scratch",
)

CONTINUE: Final = Flag(
    option="--continue", help="Go on with a run that began on fewer exams", kind=bool, config_key="train.continues"
)

TRAINED: Final = (Stage.VALIDATE, Stage.SPLIT, Stage.PRETRAIN, Stage.TRAIN)
"""What a training brings up to date on its way."""

VERBS: Final = (
    Verb(
        name="pipeline",
        group=MAIN_JOB,
        help="All of it in one run: ingest, validate, split, train, evaluate, explain, report.",
        flags=(FROM_SCRATCH, CONTINUE),
        forces=(*TRAINED, Stage.EVALUATE, Stage.EXPLAIN),
        deployment=Deployment(
            about="From a folder of DICOM exams to a trained, evaluated, explained GMIC and its report, in one run.",
            pool="mammo-gpu",
        ),
    ),
    Verb(
        name="predict",
        group=MAIN_JOB,
        help="Score and explain exams with a trained network; no labels needed.",
        flags=(
            Flag(
                option="--dicom",
                help="Folder of DICOM files, instead of ingest.source_dir and ingest.source",
                kind=Path,
                config_key="ingest.source_dir",
                stands_for="ingest.source",
            ),
            Flag(option="--profile", help="Gate profile, instead of ingest.profile", kind=str, config_key="ingest.profile"),
            Flag(option="--checkpoint", help="Checkpoint folder, instead of the config's", kind=Path, config_key="checkpoint"),
            Flag(option="--workspace", help="Where to write, instead of workspace_dir", kind=Path, config_key="workspace_dir"),
            Flag(
                option="--calibrated",
                help="Breast scores after the recalibration kept beside the weights",
                kind=bool,
                config_key="calibrated",
                has_negative=True,
            ),
        ),
        deployment=Deployment(
            about="Score and explain the exams that have no score yet: every hour, and when an ingest is done. "
            "It looks into the inbox itself.",
            pool="mammo-gpu",
            schedule=Schedule(cron="30 * * * *", slug="hourly"),
            event=_completed("ingest"),
        ),
    ),
    Verb(
        name="demo",
        group=MAIN_JOB,
        help="Everything on a small synthetic cohort in minutes, then, with --dicom, real mammograms through the trained "
        "network.",
        runs="deployments.commands.demo:demo",
    ),
    Verb(
        name="dataset",
        group=MAIN_JOB,
        help="A public data set as downloaded becomes what pipeline reads, its counts compared with the published ones.",
        runs="deployments.commands.public.dataset:dataset",
    ),
    Verb(
        name="phantom",
        group=ONE_STAGE,
        help="Write a labelled synthetic screening cohort as DICOM files.",
        deployment=Deployment(
            about="Write a labelled synthetic screening cohort as DICOM files. Needs the section phantom.", pool="mammo-cpu"
        ),
    ),
    Verb(
        name="ingest",
        group=ONE_STAGE,
        help="Bring DICOM exams into the exam store.",
        flags=(
            Flag(
                option="--allow-withdrawals",
                help="Publish although more than ingest.max_withdrawn_fraction of the images would go",
                kind=bool,
                config_key="ingest.allow_withdrawals",
            ),
        ),
        deployment=Deployment(
            about="Bring new exams of the inbox into the exam store: every night, and when exams arrive. It asks its ledger "
            "what is new, so a run too many does nothing and a missed event is made up for by the next run.",
            pool="mammo-cpu",
            schedule=Schedule(cron="0 1 * * *", slug="nightly"),
            event={"match": {"prefect.resource.id": "mammo.inbox.*"}, "expect": ["mammo.exams.arrived"]},
        ),
    ),
    Verb(
        name="validate",
        group=ONE_STAGE,
        help="Check the published images and labels; blocking failures end with code 4.",
        forces=(Stage.VALIDATE,),
        deployment=Deployment(about="Check the published images and labels; blocking failures fail the run.", pool="mammo-cpu"),
    ),
    Verb(
        name="split",
        group=ONE_STAGE,
        help="Divide the patients into train, tuning and test.",
        forces=(Stage.SPLIT,),
        deployment=Deployment(about="Divide the patients into train, tuning and test.", pool="mammo-cpu"),
    ),
    Verb(
        name="pretrain",
        group=ONE_STAGE,
        help="Pre-train the localisation network; train and search do it too if the config asks for it.",
        forces=(Stage.PRETRAIN,),
        deployment=Deployment(
            about="Pre-train the localisation network, before train or search. Needs the section pretrain.",
            pool="mammo-gpu",
        ),
    ),
    Verb(
        name="train",
        group=ONE_STAGE,
        help="Train GMIC, continuing where an earlier run stopped.",
        flags=(FROM_SCRATCH, CONTINUE),
        forces=TRAINED,
        deployment=Deployment(
            about="Check, split and train on all that is published, every week. It continues where an earlier run stopped and "
            "ends at once if nothing has changed.",
            pool="mammo-gpu",
            schedule=Schedule(cron="0 3 * * 6", slug="weekly"),
            skips_when_busy=True,
        ),
    ),
    Verb(
        name="evaluate",
        group=ONE_STAGE,
        help="Measure the trained network on the test split.",
        flags=(
            Flag(
                option="--leave-out-seen",
                help="Leave out patients whom the weights were trained or tuned on, and say how many; refused without it",
                kind=bool,
                config_key="evaluate.leave_out_seen",
            ),
        ),
        forces=(Stage.EVALUATE,),
        deployment=Deployment(
            about="Measure the trained network on the test split, every month, and compare with the evaluation before.",
            pool="mammo-gpu",
            schedule=Schedule(cron="0 5 1 * *", slug="monthly"),
            skips_when_busy=True,
        ),
    ),
    Verb(
        name="explain",
        group=ONE_STAGE,
        help="Draw saliency, patches and attention of test exams.",
        forces=(Stage.EXPLAIN,),
        deployment=Deployment(about="Draw saliency, patches and attention of test exams.", pool="mammo-gpu"),
    ),
    Verb(
        name="search",
        group=NETWORK,
        help="Random search over the paper's ranges; goes on where it stopped, alone or with other workers of the same study.",
        flags=(
            Flag(
                option="--yes",
                help="Start although the forecast is above search.confirm_above_hours",
                kind=bool,
                config_key="search.is_confirmed",
            ),
            FROM_SCRATCH,
        ),
        deployment=Deployment(
            about="The paper's random search and its best models as an ensemble; goes on where an earlier run stopped.",
            pool="mammo-gpu",
        ),
    ),
    Verb(
        name="crossvalidate",
        group=NETWORK,
        help="Train and judge a network for each fold of the patients (split.folds); goes on where it stopped.",
        deployment=Deployment(
            about="A network for each fold of the patients, and all of them pooled; goes on where an earlier run stopped.",
            pool="mammo-gpu",
        ),
    ),
    Verb(
        name="reproduce",
        group=NETWORK,
        help="The paper's numbers, from published or own files.",
        runs="deployments.commands.reproduce:app",
    ),
    Verb(
        name="weights",
        group=NETWORK,
        help="Model files: show what is inside, make others' ours, check ours.",
        runs="deployments.commands.weights:app",
    ),
    Verb(
        name="model",
        group=NETWORK,
        help="A model's life at a site: packed, installed, promoted by rules, rolled back.",
        runs="deployments.commands.life.site_models:app",
    ),
    Verb(
        name="accept",
        group=NETWORK,
        help="Judge a model on this site's exams by the rules of the config, and propose a threshold for each device.",
        runs="deployments.commands.life.site_acceptance:accept",
        deployment=Deployment(about="Judge a model on this site's exams by the rules of the config.", pool="mammo-gpu"),
    ),
    Verb(
        name="scrub",
        group=UPKEEP,
        help="Read every stored image and compare it with its digests; damage ends with code 5.",
        flags=(Flag(option="--repair", help="Ingest damaged images again from their files", kind=bool),),
        deployment=Deployment(
            about="Read every stored image against its digests; with repair, ingest damaged ones again from their files.",
            pool="mammo-cpu",
        ),
    ),
    Verb(
        name="quarantine",
        group=UPKEEP,
        help="Files that the gate refused: list, show, release, discard, draw.",
        runs="deployments.commands.quarantine:app",
    ),
    Verb(
        name="find",
        group=UPKEEP,
        help="From a patient to her pseudonyms, asked at a prompt; from a pseudonym back to its source files.",
        runs="deployments.commands.life.lookup:find",
    ),
    Verb(
        name="withdraw",
        group=UPKEEP,
        help="Take images, exams or patients out for good: not published again, crops overwritten, their pages deleted.",
        runs="deployments.commands.withdraw:withdraw",
    ),
    Verb(
        name="backup",
        group=UPKEEP,
        help="Write what cannot be made again to one archive, mode 0600: all but pixels; runs may go on meanwhile.",
        runs="deployments.commands.backup:backup",
    ),
    Verb(
        name="restore",
        group=UPKEEP,
        help="Put an archive's content back into a workspace that nobody uses; what is there is replaced.",
        runs="deployments.commands.backup:restore",
    ),
    Verb(
        name="prune",
        group=UPKEEP,
        help="Show, or with --delete remove, old runs, artifacts and trainings; what is in use is kept.",
        runs="deployments.commands.prune:prune",
    ),
    Verb(
        name="log",
        group=SERVICE,
        help="The prediction log: verify its chain, show what was said of an exam, export it, watch devices.",
        runs="deployments.commands.life.scoring_log:app",
    ),
    Verb(
        name="infer",
        group=SERVICE,
        help="Score a folder's exams by the model in use, for programs: files in, result.json and an exit code out.",
        runs="deployments.commands.life.folder_scoring:infer",
    ),
    Verb(
        name="serve",
        group=SERVICE,
        help="Bring up the workstation: Prefect UI, scheduled deployments, workers, inbox watch; Ctrl-C stops all.",
        runs="deployments.commands.service:serve",
    ),
    Verb(
        name="pacs",
        group=SERVICE,
        help="Other systems: ask whether they answer, find and fetch exams, take what they push, return results.",
        runs="deployments.commands.exchange.pacs:app",
    ),
    Verb(
        name="deploy",
        group=SERVICE,
        help="Register pools, limits, deployments and automations at the server of PREFECT_API_URL; workers run elsewhere.",
        runs="deployments.commands.service:deploy",
    ),
    Verb(
        name="rerun",
        group=SERVICE,
        help="Retry a failed run, or with --stage start it anew with these stages forced.",
        runs="deployments.commands.rerun:rerun",
    ),
    Verb(
        name="doctor",
        group=MACHINE,
        help="Check codecs, disk, memory, keys, server, GPU and versions; exit code 1 if something is not well.",
        runs="deployments.commands.doctor:doctor",
    ),
    Verb(
        name="configs",
        group=MACHINE,
        help="List the shipped configs with their first line, or print one, to be copied.",
        runs="deployments.configuration:configs",
    ),
    Verb(
        name="plan",
        group=MACHINE,
        help="What so many images take, before anything is bought: hours, terabytes, objects, memory and money.",
        runs="deployments.commands.scale.plan:plan",
    ),
)

FLOWS_WITHOUT_A_VERB: Final = {
    # Their commands: `mammo reproduce table1`, `mammo model promote | rollback`, `pacs return`, `log watch`, `doctor --exam`.
    "table1": Deployment(about="Train and judge every row of the paper's Table 1 on the present split.", pool="mammo-gpu"),
    "promote": Deployment(
        about="Put a model into use, by a form: what each rule says is shown, a refusal says why. It only asks, unless told.",
        pool="mammo-cpu",
    ),
    "rollback": Deployment(about="Put the model that was in use before into use again, by a form.", pool="mammo-cpu"),
    "return_results": Deployment(
        about="Send results of predicted exams back to pacs.results.peer: after a prediction, and what waits each half hour.",
        pool="mammo-cpu",
        schedule=Schedule(cron="10,40 * * * *", slug="half-hourly"),
        event=_completed("predict"),
        needs=("pacs", "results"),
    ),
    "watch": Deployment(
        about="Say whether each device's scores, recalls, pictures and views go on as they began, every morning; an alarm "
        "fails the run, so whoever is told of failures is told.",
        pool="mammo-cpu",
        schedule=Schedule(cron="0 6 * * *", slug="every-morning"),
        skips_when_busy=True,
    ),
    "health": Deployment(
        about="A synthetic exam goes the whole way to its page, every hour, in a workspace of its own: nothing of it is "
        "counted, watched, evaluated or sent. Needs the section health.",
        pool="mammo-gpu",
        schedule=Schedule(cron="5 * * * *", slug="hourly"),
        skips_when_busy=True,
        needs=("health",),
    ),
}


def deployed_flows() -> dict[str, Deployment]:
    """Flows by name, with how a service runs each."""
    return {verb.name: verb.deployment for verb in VERBS if verb.deployment is not None} | FLOWS_WITHOUT_A_VERB
