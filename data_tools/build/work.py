"""The folder beside the output in which a build does its work, so that one that was cut off can go on.

`.NAME.build` holds build.json, which says of what config and input it is, and the outputs of the steps that are done;
each of these appeared whole under its name. One process at a time builds an output (`lock`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from data_tools.atomic import is_put_aside, put_folder, restore_folder, write_text, writing_to
from data_tools.build.config import Advice
from data_tools.errors import UserError
from data_tools.inputs import changed_files
from data_tools.lock import locked
from data_tools.manifest import MANIFEST, VERSION, read_manifest

BUILD, CONFIG = "build.json", "config.yaml"


class Reader(Protocol):
    """A source, a remedy, or another thing that goes by files."""

    def files(self) -> Sequence[Path]:
        """The files that it reads."""
        ...


class Work:
    """The work folder of an output; paths in it are named by the properties."""

    def __init__(self, out: Path) -> None:
        self.output = out
        self.folder = out.parent / f".{out.name}.build"

    @property
    def parts(self) -> Path:
        """Finished parts (`parts.part`)."""
        return self.folder / "parts"

    @property
    def plan(self) -> Path:
        """The plan (`build.plan`)."""
        return self.folder / "plan"

    @property
    def told(self) -> Path:
        """What is told of each finished shard."""
        return self.folder / "shards"

    @property
    def out(self) -> Path:
        """The output, under construction."""
        return self.folder / "out"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Makes the folder, where it isn't there, and holds the output.

        Raises:
            UserError: another process holds it.
        """
        with locked(self.output, "building"):
            self.folder.mkdir(parents=True, exist_ok=True)
            yield

    def begin(self, fingerprint: dict[str, Any], resume: bool, overwrite: bool, advice: Advice) -> None:
        """Gets the folder, which must be held, ready for a build of this fingerprint.

        Raises:
            UserError: there is an unfinished build, and neither `resume` nor `overwrite` says what to do about it; or
                it is one of another fingerprint.
        """
        if self.said:
            if not resume and not overwrite:
                raise UserError(f"{self.output}: an earlier build of it is unfinished; {advice.resume}")
            if resume:
                if self.said["fingerprint"] == fingerprint:
                    return self._sweep()
                if not overwrite:
                    changed = [
                        key for key in fingerprint if fingerprint[key] != self.said["fingerprint"].get(key)
                    ]
                    raise UserError(
                        f"{self.output}: the unfinished build is of another {' and '.join(changed)}, so it can't be "
                        f"gone on with; {advice.elsewhere}, or {advice.replace} to begin anew"
                    )
        self.clear()
        for path in (self.parts, self.told, self.out):
            path.mkdir()
        write_text(self.folder / BUILD, json.dumps({"fingerprint": fingerprint, "overwrite": overwrite}))

    @property
    def said(self) -> dict[str, Any]:
        """What the folder's own build.json holds; empty where no build was begun."""
        try:
            row = json.loads((self.folder / BUILD).read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return row if isinstance(row, dict) else {}

    def _sweep(self) -> None:
        """Removes what a killed process was writing."""
        for path in self.folder.rglob(".*.tmp"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes what is in the folder, first of all what says that it is a build to go on with."""
        (self.folder / BUILD).unlink(missing_ok=True)
        for path in list(self.folder.iterdir()):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def remove(self) -> None:
        """Removes the folder, where there is one."""
        if self.folder.exists():
            with contextlib.suppress(OSError):
                self.clear()
                self.folder.rmdir()

    def tidy(self) -> None:
        """Removes what a build that finished left behind when it was cut off, unless another one is at work."""
        if self.folder.exists():
            with contextlib.suppress(UserError, PermissionError), self.held():
                self.remove()

    def put(self) -> None:
        """Gives the finished output its name, in the place of what is there."""
        put_folder(self.out, self.output)


def fingerprint(
    config: str, files: Sequence[dict[str, Any]], pieces: Sequence[object], origin: Sequence[str]
) -> dict[str, Any]:
    """All that decides a build's bytes: its config, its input files, how these are divided, and of which version
    (`source.Source.origin`) those are that were fetched.
    """
    divided = hashlib.sha256(repr([list(pieces), list(origin)]).encode()).hexdigest()
    return {"program": _program(), "config": config, "input": [list(files), divided]}


def _program() -> list[str]:
    """The version of the shards' format and that of the program, as far as that is known."""
    try:
        return [str(VERSION), metadata.version("mmrlhf")]
    except metadata.PackageNotFoundError:
        return [str(VERSION)]


def is_finished(
    config: str,
    readers: Iterable[Reader],
    work: Work,
    overwrite: bool,
    resume: bool,
    advice: Advice,
) -> bool:
    """Whether the output is there already, of this config and of the files of its `readers` as they are.

    Raises:
        UserError: something else is there that must not be replaced.
    """
    out = work.output
    if is_put_aside(out):
        with locked(out, "building"):
            restore_folder(out)
    with writing_to(out):
        new = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if new:
        return False
    if not (out / MANIFEST).is_file():
        raise UserError(f"{out}: exists and is no data set; {advice.elsewhere}")
    replaces = overwrite or (resume and bool(work.said.get("overwrite")))
    why = _difference(config, readers, out)
    if not why:
        # one that is to be replaced was put there by the build itself, before it was cut off, where it is to go on
        return resume or not replaces
    if replaces:
        return False
    raise UserError(f"{out}: {why}; {advice.elsewhere}, or {advice.replace}")


def _difference(config: str, readers: Iterable[Reader], out: Path) -> str:
    said = out / CONFIG
    if not said.is_file() or said.read_text(encoding="utf-8") != config:
        return "holds a data set of another config"
    files = read_manifest(out).extra.get("files", [])
    changed = changed_files(files)
    if changed:
        return f"was made before {', '.join(changed)} changed"
    known = {row["path"] for row in files}
    come = [path for reader in readers for path in _files(reader) if str(path) not in known]
    return f"was made before {', '.join(map(str, come))} came" if come else ""


def _files(reader: Reader) -> Sequence[Path]:
    """The files that it reads today; none where they are gone, as a set can be used without what it was made from."""
    try:
        return reader.files()
    except UserError:
        return ()
