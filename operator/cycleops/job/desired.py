"""The children that a CycleJob should have at each step. Pure."""

import base64
from collections.abc import Sequence
from typing import Any

from cycle_wire.reports import EXIT_BAD_INPUT
from cycleops.api.cores import server_threads_of, threads_of
from cycleops.api.cyclejob import CleanPodPolicy, ExitAction
from cycleops.controller.children import child_labels, child_metadata
from cycleops.controller.kinds import CONFIG_MAP, CYCLE_JOB, JOB, JOB_LABEL, ROLE_LABEL, SECRET, SERVICE, Kind
from cycleops.controller.store import Facts
from cycleops.job import names
from cycleops.job.configs import hostfile, profiling_config, server_image, trainer_image, training_config
from cycleops.job.decision import Step
from cycleops.job.observation import Observation, SshKeys
from cycleops.job.pods import PRIVATE_KEY, PUBLIC_KEY, Role, pod_template, worker

Body = dict[str, Any]
# The launcher's retries are the job's; a worker that keeps failing makes the launcher fail.
_WORKER_RESTARTS = 1000
_ACTIONS = {ExitAction.RETRY: "Count", ExitAction.FAIL: "FailJob", ExitAction.IGNORE: "Ignore"}


def desired_children(o: Observation, step: Step) -> list[Body]:
    """What should be there; what is there beyond it is left alone or listed by :func:`unwanted_children`."""
    if step is Step.TRAIN:
        return _training(o)
    if step is Step.COMPRESS:
        return [_config(o, names.compress(o.name), training_config(o, with_model=True).to_json()), _compress(o)]
    if step is Step.PROFILE:
        return [body for name in o.profile_classes for body in _profile(o, name)]
    if step is Step.SUSPEND:
        return [_suspended(o, name) for name, job in o.jobs.items() if not job.ended]
    return []


def unwanted_children(o: Observation, step: Step) -> list[Facts]:
    """Jobs to delete with their pods, as cleanPodPolicy says."""
    policy = o.spec.run_policy.clean_pod_policy
    worker_name = names.worker_job(o.name)
    if step is Step.RESTART:  # all ranks: who knows which of them hangs
        wanted_gone = [names.launcher_job(o.name), worker_name]
    elif step in (Step.COMPRESS, Step.PROFILE):
        # Idle workers would hold machines, and disturb the measurement.
        idle = o.spec.workers.has_launcher and policy is not CleanPodPolicy.NONE
        wanted_gone = [worker_name] if idle else []
    elif step in (Step.SUCCEED, Step.FAIL):
        running = [name for name, job in o.jobs.items() if not job.ended]
        wanted_gone = {
            CleanPodPolicy.ALL: list(o.jobs),
            CleanPodPolicy.RUNNING: running,
            # Idle workers may stay, to be looked at; workers that nobody launches are the training itself.
            CleanPodPolicy.NONE: [n for n in running if n != worker_name or not o.spec.workers.has_launcher],
        }[policy]
    else:
        return []
    return [facts for name in wanted_gone if (facts := o.children.get((JOB.kind, name))) is not None]


def _training(o: Observation) -> list[Body]:
    children = [_workers_service(o), _training_config_map(o)]
    if o.new_keys is not None:
        children.append(_ssh_secret(o, o.new_keys))
    launcher = [_launcher_job(o)] if o.spec.workers.has_launcher else []
    return [*children, _worker_job(o), *launcher]


def _child(o: Observation, kind: Kind, name: str, role: str | None = None, **fields: Any) -> Body:
    metadata = child_metadata(owner=o.owner, kind=CYCLE_JOB, name=name, label=JOB_LABEL, role=role)
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **fields}


def _workers_service(o: Observation) -> Body:
    """Names for the workers before they are ready: who needs them waits until they answer."""
    port = {"name": "ssh", "port": 2222} if o.spec.workers.has_launcher else {"name": "rendezvous", "port": 29400}
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": child_labels(owner=o.owner, label=JOB_LABEL, role="worker"),
        "ports": [{**port, "protocol": "TCP"}],
    }
    return _child(o, SERVICE, names.workers_service(o.name), "worker", spec=spec)


def _config(o: Observation, name: str, config: str, **more: str) -> Body:
    return _child(o, CONFIG_MAP, name, data={"config.json": config, "ca.crt": o.environment.authority, **more})


def _training_config_map(o: Observation) -> Body:
    config = training_config(o, with_model=False).to_json()
    more = {"hostfile": hostfile(o)} if o.spec.workers.has_launcher else {}
    return _config(o, names.config_map(o.name), config, **more)


def _ssh_secret(o: Observation, keys: SshKeys) -> Body:
    files = {PRIVATE_KEY: keys.private, PUBLIC_KEY: keys.public}
    data = {name: base64.b64encode(text.encode()).decode() for name, text in files.items()}
    return _child(o, SECRET, names.ssh_secret(o.name), type="kubernetes.io/ssh-auth", immutable=True, data=data)


def _worker_job(o: Observation) -> Body:
    replicas, role = o.spec.workers.replicas, worker(o, image=trainer_image(o))
    ending = {"backoffLimit": _WORKER_RESTARTS} if o.spec.workers.has_launcher else _ends_the_training(o, role)
    spec = {
        "completionMode": "Indexed",
        "completions": replicas,
        "parallelism": replicas,
        **ending,
        "podReplacementPolicy": "Failed",
        "suspend": False,
        "template": pod_template(o, role),
    }
    return _child(o, JOB, names.worker_job(o.name), "worker", spec=spec)


def _ends_the_training(o: Observation, role: Role) -> Body:
    """Workers that start their own ranks: the end of the first, where rank 0 is, is the training's.

    A rank that fails takes all others with it, so every index fails once in an attempt: each has all the restarts.
    """
    return {
        "backoffLimitPerIndex": _restarts_left(o),
        "maxFailedIndexes": 0,
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]},
        "podFailurePolicy": {"rules": _failure_rules(role, _exit_code_rules(o, role))},
    }


def _launcher_job(o: Observation) -> Body:
    role = Role(
        name="launcher",
        image=trainer_image(o),
        command=("cycle-trainer", "launch"),
        config_map=names.config_map(o.name),
        hardware=None,
        threads=1,
        keys=(PRIVATE_KEY,),
    )
    rules = _exit_code_rules(o, role)
    return _once(o, names.launcher_job(o.name), role, restarts_left=_restarts_left(o), more_rules=rules)


def _restarts_left(o: Observation) -> int:
    return max(o.spec.run_policy.backoff_limit - o.evidence.earlier_failures, 0)


def _exit_code_rules(o: Observation, role: Role) -> list[Body]:
    return [_on_exit(role, _ACTIONS[rule.action], rule.codes) for rule in o.spec.run_policy.exit_codes]


def _compress(o: Observation) -> Body:
    hardware = o.classes[o.spec.workers.hardware]
    role = Role(
        name="compress",
        image=trainer_image(o),
        command=("cycle-trainer", "compress"),
        config_map=names.compress(o.name),
        hardware=hardware,
        threads=threads_of(hardware),
    )
    return _once(o, names.compress(o.name), role, restarts_left=o.spec.run_policy.backoff_limit)


def _profile(o: Observation, hardware_class: str) -> list[Body]:
    hardware, name = o.classes[hardware_class], names.profile(o.name, hardware_class=hardware_class)
    role = Role(
        name="profile",
        image=server_image(o, hardware_class=hardware_class),
        command=("cycle-server", "profile"),
        config_map=name,
        hardware=hardware,
        threads=server_threads_of(hardware),
    )
    config = _config(o, name, profiling_config(o, hardware_class=hardware_class).to_json())
    return [config, _once(o, name, role, restarts_left=o.spec.run_policy.backoff_limit)]


def _on_exit(role: Role, action: str, codes: Sequence[int]) -> Body:
    return {
        "action": action,
        "onExitCodes": {"containerName": role.name, "operator": "In", "values": sorted(codes)},
    }


def _once(o: Observation, name: str, role: Role, *, restarts_left: int, more_rules: Sequence[Body] = ()) -> Body:
    """A Job of one pod, tried again so often, but not when its input is wrong."""
    spec = {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": restarts_left,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": _failure_rules(role, more_rules)},
        "suspend": False,
        "template": pod_template(o, role),
    }
    return _child(o, JOB, name, role.name, spec=spec)


def _failure_rules(role: Role, more: Sequence[Body]) -> list[Body]:
    """Input that is wrong stays wrong; a pod that was evicted, preempted or drained is not at fault."""
    return [
        _on_exit(role, "FailJob", [EXIT_BAD_INPUT]),
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        *more,
    ]


def _suspended(o: Observation, name: str) -> Body:
    """Only what changes: a Job that exists is patched, never applied."""
    return _child(
        o, JOB, name, o.children[JOB.kind, name].body["metadata"]["labels"].get(ROLE_LABEL), spec={"suspend": True}
    )
