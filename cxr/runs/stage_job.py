"""A stage as one job of a cluster, instead of in this process."""

from pathlib import Path

from cxr.cli import StageArguments
from cxr.config import UserError
from cxr.runs.cluster_settings import load_cluster
from cxr.runs.job_start import Job
from cxr.runs.jobs import place_jobs, run_jobs
from cxr.runs.whole_files import next_to

_TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


def run_as_job(script: Path, arguments: StageArguments, *, torchrun: bool = False) -> bool:
    """With ``--cluster``, queue the stage as one job and wait until its run is finished. The same command resumes it.

    Args:
        script: the stage's ``run.py``. torchrun: the stage takes a process for each GPU of the job.

    Returns:
        False without ``--cluster``; then nothing was done.

    Raises:
        UserError: settings of the cluster that do not validate; the stage fails, with its errors and its log.
    """
    cluster = load_cluster(arguments.cluster, arguments.cluster_changes)
    if cluster is None:
        return False
    if arguments.num_checked is not None:
        raise UserError("--check-distributed: runs on this machine; leave out --cluster")
    from_ = ["--from", *map(str, arguments.sources)] if arguments.sources else []
    set_ = ["--set", *arguments.overrides] if arguments.overrides else []
    several = (*_TORCHRUN, str(cluster.gpus)) if torchrun and (cluster.gpus or 0) > 1 else ()
    command = (*several, str(script), str(arguments.config), *from_, *set_)
    job = Job(arguments.out.name, arguments.out, command)
    folder = next_to(arguments.out, "_cluster")
    starter, _ = place_jobs(cluster, folder, num_parallel=1)
    (outcome,) = run_jobs([job], starter=starter)
    if outcome.problem:
        raise UserError(f"{outcome.problem} (log: {job.log_file})")
    return True
