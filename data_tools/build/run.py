"""The steps of a build, one after the other; what each did stays done if the next one is cut off."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from data_tools.atomic import writing_to
from data_tools.build.audit import FOLDER as AUDIT
from data_tools.build.audit import write_audit
from data_tools.build.config import ADVICE, Advice, BuildReport, DataConfig, Progress, Reading
from data_tools.build.finish import finish, report_of
from data_tools.build.plan import Plan, make_plan
from data_tools.build.quarantine import FOLDER, ROWS, leave_beside, remove_beside
from data_tools.build.read import Counts, ReadTask, TooManyRejected, read_part
from data_tools.build.work import Reader, Work, fingerprint, is_finished
from data_tools.build.write import WriteTask, write_shard
from data_tools.config import dump_yaml
from data_tools.errors import UserError
from data_tools.executor import Executor, LocalExecutor
from data_tools.inputs import file_hashes
from data_tools.source import Source

TaskT = TypeVar("TaskT", bound=ReadTask)


def build(
    config: DataConfig,
    out: str | Path,
    progress: Progress | None = None,
    overwrite: bool = False,
    advice: Advice = ADVICE,
    executor: Executor | None = None,
    resume: bool = False,
) -> BuildReport:
    """Writes shards, manifest.json, stats.json, config.yaml and quarantine/ to `out`: the same bytes for the same
    config and input, wherever it is worked on and however often it was cut off.

    A finished directory of the same config and input files is kept; any other is refused unless `overwrite`. `resume`
    goes on with a build that was cut off. `progress` is called with a source's name (or "writing"), how many rows or
    records are done, and of how many, where known. `advice` is what a refusal tells the user to do. Without an
    `executor` all is done in this process.

    Raises:
        UserError: a source can't be read or has too many malformed rows, a quota can't be met, the disk is
            full, or `out` holds something else, or an unfinished build that is not to be gone on with.
    """
    report = progress or (lambda what, done, total: None)
    executor = executor or LocalExecutor()
    work = Work(Path(out))
    text = dump_yaml(config)
    readers: dict[str, Reader] = {source.name: source for source in config.sources}
    readers |= {f"remedies.{number}": remedy for number, remedy in enumerate(config.remedies)}
    if config.audit is not None:
        readers["audit"] = config.audit
    if is_finished(text, readers.values(), work, overwrite, resume, advice):
        work.tidy()
        return report_of(work.output, config.sources)
    files = file_hashes([(name, reader.files()) for name, reader in readers.items()])
    tasks = read_tasks(config, config.sources, work.parts)
    origin = [name for source in config.sources for name in source.origin()]
    said = fingerprint(text, files, [task.piece for task in tasks], origin)
    with working(work, said, resume, overwrite, advice):
        read(tasks, read_part, executor, report)
        if not work.plan.exists():
            numbers = {source.name: number for number, source in enumerate(config.sources)}
            make_plan(config, [(numbers[task.source.name], Path(task.folder)) for task in tasks], work.plan)
        plan = Plan.load(work.plan)
        _write(config, plan, [task.folder for task in tasks], work, executor, report)
        told = [json.loads((work.told / f"{shard.name}.json").read_bytes()) for shard in plan.shards]
        quarantines = _quarantines(tasks, work)
        extra = {"seed": config.seed, "files": files, "made": plan.made}
        if plan.notes:
            extra["notes"] = plan.notes
        if plan.balance is not None:
            extra["balance"] = plan.balance
        if config.audit is not None:
            extra["audit"] = AUDIT  # where `data audit` doesn't write over it
        finish(work, text, told, quarantines, plan.counts, plan.left_out, extra)
        if config.audit is not None:
            parts = [Path(task.folder) for task in tasks]
            write_audit(config.audit, config.seed, plan, parts, work, report)
    return report_of(work.output)


@contextmanager
def working(
    work: Work, said: dict[str, Any], resume: bool, overwrite: bool, advice: Advice
) -> Iterator[None]:
    """Holds the work folder, gets it ready, and at the end gives the output its name and removes the folder.

    A mistake of the input or the config removes it too, since it has to be changed; where too many rows are rejected,
    these stay in `NAME.quarantine` beside the output, until it is built. Whatever else cuts the work off
    leaves what is done: a full disk, or a picture that is gone once the plan is made and may come back.
    """
    with writing_to(work.output), work.held():
        work.begin(said, resume, overwrite, advice)
        try:
            yield
        except TooManyRejected as error:
            left = leave_beside(work.output, sorted(work.parts.glob(f"*/{FOLDER}")))
            work.remove()
            where = f"\nEach of the rows, with its reason: {left / ROWS}" if left else ""
            raise TooManyRejected(f"{error}{where}") from error
        except UserError:
            if not work.plan.exists():
                work.remove()
            raise
        work.put()
        remove_beside(work.output)
        work.remove()


def read_tasks(config: Reading, sources: Sequence[Source], parts: Path) -> list[ReadTask]:
    """A task for each piece of each source's input, in their order.

    Raises:
        UserError: the input can't be read.
    """
    return [
        ReadTask(source, piece, config.seed, config.images, str(parts / f"{number:04d}-{place:06d}"))
        for number, source in enumerate(sources)
        for place, piece in enumerate(source.pieces() or [None])
    ]


def read(
    tasks: Sequence[TaskT],
    function: Callable[[TaskT], str],
    executor: Executor,
    report: Progress,
) -> None:
    """Works on the tasks whose folders aren't there yet, and tells how many rows of each source are read."""
    names = {task.folder: task.source.name for task in tasks}
    left = Counter(names.values())
    done = Counter[str]()

    def tell(folder: str) -> None:
        name = names[folder]
        done[name] += Counts.load(Path(folder)).read
        left[name] -= 1
        report(name, done[name], None if left[name] else done[name])

    finished = {task.folder for task in tasks if Path(task.folder).exists()}
    for folder in sorted(finished):
        tell(folder)
    for folder in executor.map(function, [task for task in tasks if task.folder not in finished]):
        tell(folder)


def _write(
    config: DataConfig, plan: Plan, parts: list[str], work: Work, executor: Executor, report: Progress
) -> None:
    total = sum(shard.stop - shard.start for shard in plan.shards)
    seed, keep = config.seed if config.shuffle_responses else None, config.images.keep_metadata
    tasks, done = [], 0
    for shard in plan.shards:
        told = work.told / f"{shard.name}.json"
        if told.exists():
            done += shard.stop - shard.start
        else:
            tasks.append(WriteTask(shard, str(work.plan), tuple(parts), str(work.out), str(told), seed, keep))
    report("writing", done, total)
    for records in executor.map(write_shard, tasks):
        done += records
        report("writing", done, total)


def _quarantines(tasks: Sequence[ReadTask], work: Work) -> list[Path]:
    """The folders of rejected rows, source by source: first those that are so by themselves."""
    found: dict[str, list[Path]] = {}
    for task in tasks:
        found.setdefault(task.source.name, []).append(Path(task.folder) / FOLDER)
    return [path for name, paths in found.items() for path in [*paths, work.plan / FOLDER / name]]
