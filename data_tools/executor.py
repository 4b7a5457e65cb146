"""Where the steps of a build are worked on: in this process, in several of this machine, or on a Ray cluster.

A step is a function of one task that reads files, writes one output and returns a few numbers. So tasks may run
anywhere that sees the same folders, in any order; what carries them never carries records or images.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from data_tools.errors import RunError, UserError

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")
EXECUTORS = ("local", "ray")
NO_RAY = "--executor ray needs Ray: pip install 'mmrlhf[ray]'"


class Executor(Protocol):
    """Works on tasks."""

    def map(self, function: Callable[[TaskT], ResultT], tasks: Iterable[TaskT]) -> Iterator[ResultT]:
        """The results, as they come, in no order. A task's error is raised here and ends the work on the others.

        `function` and the tasks are pickled where another process works on them.
        """
        ...


def make_executor(kind: str, workers: int | None = None) -> Executor:
    """The executor of a name of `EXECUTORS`; `workers` is how many tasks run at once (None: a task a core).

    Raises:
        UserError: no such executor, or Ray isn't installed.
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: must be 1 or more")
    if kind == "local":
        return LocalExecutor(workers or os.cpu_count() or 1)
    if kind == "ray":
        if importlib.util.find_spec("ray") is None:
            raise UserError(NO_RAY)
        return RayExecutor(workers)
    raise UserError(f"--executor {kind}: is none of {', '.join(EXECUTORS)}")


class LocalExecutor:
    """Processes of this machine; with one worker it is this process itself, which needs no pickling.

    The processes are spawned, end with `map` however it ends, and don't outlive this one.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers

    def map(self, function: Callable[[TaskT], ResultT], tasks: Iterable[TaskT]) -> Iterator[ResultT]:
        """See `Executor.map`.

        Raises:
            RunError: a process was killed from outside.
        """
        waiting = deque(tasks)
        workers = min(self.workers, len(waiting))
        if workers <= 1:
            yield from map(function, waiting)
            return
        crew = _Crew(workers)
        try:
            yield from crew.map(function, waiting)
        finally:
            crew.stop()


class _Crew:
    """Spawned processes, each at the other end of a pipe."""

    def __init__(self, workers: int) -> None:
        from multiprocessing import get_context

        context = get_context("spawn")
        self.processes: dict[Connection, SpawnProcess] = {}
        for _ in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self.processes[ours] = process

    def map(self, function: Callable[[Any], ResultT], waiting: deque[Any]) -> Iterator[ResultT]:
        busy: list[Connection] = []
        for connection in self.processes:
            if waiting:
                busy.append(self._give(connection, function, waiting.popleft()))
        while busy:
            ready = wait(busy)
            for connection in [one for one in busy if one in ready]:
                busy.remove(connection)
                try:
                    error, result = connection.recv()
                except (EOFError, OSError):
                    raise self._lost(connection) from None
                if error is not None:
                    raise error
                if waiting:
                    busy.append(self._give(connection, function, waiting.popleft()))
                yield result

    def _give(self, connection: Connection, function: Callable[[Any], Any], task: Any) -> Connection:
        try:
            connection.send((function, task))
        except OSError:
            raise self._lost(connection) from None
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UserError(
                f"a source can't be sent to another process ({error}); use --workers 1, or make its class importable"
            ) from error
        return connection

    def _lost(self, connection: Connection) -> RunError:
        process = self.processes[connection]
        process.join(5)
        return RunError(
            f"a worker process ended by itself (exit code {process.exitcode}); was it killed for memory? "
            "Use fewer --workers"
        )

    def stop(self) -> None:
        """Ends the processes at once; what they were writing has a temporary name."""
        for connection, process in self.processes.items():
            process.terminate()
            connection.close()
        for process in self.processes.values():
            process.join()


def _work(connection: Connection) -> None:
    """What a process of the crew does: a task, its result, the next task."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the one that started us ends us
    threading.Thread(target=_follow_parent, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            function, task = connection.recv()
            connection.send(_attempt(function, task))


def _follow_parent() -> None:
    """Ends this process when the one that started it is gone, even by SIGKILL."""
    from multiprocessing import parent_process

    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _portable(error: Exception) -> Exception:
    """The error itself, or one with its message where it can't be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 (whatever a class's own pickling does)
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class RayExecutor:
    """Tasks of a Ray cluster, or of a Ray of this machine where none was started; all its machines must see the same
    folders.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers

    def map(self, function: Callable[[TaskT], ResultT], tasks: Iterable[TaskT]) -> Iterator[ResultT]:
        """See `Executor.map`.

        Raises:
            UserError: Ray isn't installed.
        """
        ray = _ray(self.workers)
        remote = ray.remote(num_cpus=1, max_retries=0)(_attempt)
        waiting, running = deque(tasks), list[Any]()
        most = self.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        try:
            while waiting or running:
                while waiting and len(running) < most:
                    running.append(remote.remote(function, waiting.popleft()))
                done, running = ray.wait(running)
                for error, result in ray.get(done):
                    if error is not None:
                        raise error
                    yield result
        finally:
            for task in running:
                ray.cancel(task, force=True)


def _attempt(function: Callable[[Any], Any], task: Any) -> tuple[Exception | None, Any]:
    """The error, which is raised again where the task came from, or the result."""
    try:
        return None, function(task)
    except Exception as error:  # noqa: BLE001 (see above)
        return _portable(error), None


def _ray(workers: int | None) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError(NO_RAY) from error
    if not ray.is_initialized():
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="error")
    return ray
