"""Configs are strict everywhere, documented everywhere, and every one that is shipped loads."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from data_tools.build import DataConfig
from data_tools.config import Config, apply_overrides, dump_yaml, load_config, parse_config, read_yaml
from data_tools.errors import UserError
from mmrlhf.config import LoraSettings, ModelConfig, OptimConfig, RunConfig
from mmrlhf.rewards.scalarizers import Chebyshev

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = sorted((ROOT / "configs").rglob("*.y*ml"))


def test_there_are_configs() -> None:
    assert "quickstart.yaml" in [path.name for path in SHIPPED]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_config_loads(path: Path, tmp_path: Path) -> None:
    model: type[BaseModel] = DataConfig if "sources" in read_yaml(path) else RunConfig
    config = load_config(path, model)
    written = tmp_path / "again.yaml"
    written.write_text(dump_yaml(config))
    assert load_config(written, model) == config


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every config class an annotation holds, members of plug-in unions too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for item in get_args(annotation):
        yield from models_in(item)
    members = getattr(annotation, "members", None)  # of a plug-in family, in an Annotated's metadata
    for member in (members or {}).values():
        yield from models_in(member)


def all_models() -> dict[str, type[BaseModel]]:
    """RunConfig and everything below it, by the path at which it is met first and its name."""
    found: dict[str, type[BaseModel]] = {}

    def walk(path: str, model: type[BaseModel]) -> None:
        if model in found.values():
            return
        found[f"{path or 'run'} ({model.__name__})"] = model
        for name, info in model.model_fields.items():
            for annotation in (info.annotation, *info.metadata):
                for nested in models_in(annotation):
                    if nested is not Config:
                        walk(f"{path}.{name}".lstrip("."), nested)

    walk("", RunConfig)
    return found


MODELS = all_models()


def test_the_walk_reaches_everything() -> None:
    names = {model.__name__ for model in MODELS.values()}
    assert names >= {
        "RunConfig",
        "DataConfig",
        "PpoVariant",
        "WeightedSum",
        "WorstCase",
        "LoraSettings",
        "Balance",
    }
    assert names >= {
        "FlipPairs",
        "Prompts",
        "Demonstrations",
        "EngineConfig",
        "EvaluateConfig",
        "OptimConfig",
    }


@pytest.mark.parametrize("path", MODELS)
def test_every_setting_is_described(path: str) -> None:
    model = MODELS[path]
    assert model.__doc__
    bare = []
    for name, info in model.model_fields.items():
        sections = [m for m in models_in(info.annotation) if m is not Config]
        # a section is described by its class; `type` names its own class
        if not info.description and not sections and name != "type":
            bare.append(name)
    assert bare == []


@pytest.mark.parametrize("path", MODELS)
def test_unknown_keys_are_refused(path: str) -> None:
    with pytest.raises(ValidationError) as caught:
        MODELS[path].model_validate({"no_such_key": 1})
    assert [e["loc"] for e in caught.value.errors() if e["type"] == "extra_forbidden"] == [("no_such_key",)]


@pytest.mark.parametrize("path", MODELS)
def test_configs_are_immutable(path: str) -> None:
    assert MODELS[path].model_config["frozen"] is True


MINIMAL = {"name": "r", "data": {"sources": [{"type": "prompts"}]}}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"seeds": 1}, "seeds: unknown key; did you mean 'seed'?"),
        (
            {"model": {"lora": {"rank": 8}}},
            "model.lora.rank: unknown key; known here: alpha, parts, r, targets",
        ),
        (
            {"sft": {"optim": {"max_grad": 1}}},
            "sft.optim.max_grad: unknown key; did you mean 'max_grad_norm'?",
        ),
        (
            {"reward": {}, "ppo": {"variants": [{"name": "a", "weight": {}}]}},
            "ppo.variants.0.weight: unknown key",
        ),
        (
            {"reward": {}, "ppo": {"variants": [{"name": "a", "scalarizer": {"type": "chebyshev", "m": 1}}]}},
            "ppo.variants.0.scalarizer.m: unknown key",
        ),
        (
            {"data": {"sources": [{"type": "prompts", "text": 1}]}},
            "data.sources.0.text: unknown key; did you mean 'texts'?",
        ),
        ({"engine": {"checkpoint": 1}}, "engine.checkpoint: unknown key; did you mean "),
    ],
)
def test_an_unknown_key_is_told_with_its_path(row: dict, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        parse_config({**MINIMAL, **row}, RunConfig, "run.yaml")


def test_numbers_are_not_text(tmp_path: Path) -> None:
    """PyYAML itself reads 3e-6 as the text '3e-6'."""
    assert yaml.safe_load("lr: 3e-6") == {"lr": "3e-6"}
    path = tmp_path / "optim.yaml"
    for text, value in {
        "3e-6": 3e-6,
        "3.0e-6": 3e-6,
        "1E3": 1000.0,
        "-.5e+1": -5.0,
        "1_000.5": 1000.5,
    }.items():
        path.write_text(f"lr: {text}\n")
        assert read_yaml(path) == {"lr": value}
    assert load_config(path.parent / "optim.yaml", OptimConfig).lr == 1000.5
    path.write_text("a: 12\nb: '3e-6'\nc: 0x10\nd: 1.2.3\ne: no\n")
    row = read_yaml(path)
    assert row == {"a": 12, "b": "3e-6", "c": 16, "d": "1.2.3", "e": False}
    assert type(row["a"]) is int
    for text in ("nan", ".nan", ".inf"):
        path.write_text(f"lr: {text}\n")
        with pytest.raises(UserError, match="lr: "):
            load_config(path, OptimConfig)


@pytest.mark.parametrize("text", ["a: 1\na: 2\n", "s:\n  b: 1\n  b: 1\n", "- {c: 1, c: 2}\n"])
def test_a_key_twice_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"the key '[abc]' stands twice \(first on line [12]\)"):
        read_yaml(path)


def test_overrides_by_hand() -> None:
    row = {"ppo": {"steps": 1, "variants": [{"name": "a"}, {"name": "b"}]}, "name": "r"}
    before = {"ppo": {"steps": 1, "variants": [{"name": "a"}, {"name": "b"}]}, "name": "r"}
    out = apply_overrides(
        row,
        [
            "ppo.steps=5",
            "ppo.optim.lr=3e-6",
            "ppo.variants.1.name=c",
            "name=x=y",
            "model={path: tiny, lora: null}",
            "reward.objectives=[a, b]",
            "ppo.kl_target=",
        ],
    )
    assert out == {
        "ppo": {
            "steps": 5,
            "optim": {"lr": 3e-6},
            "variants": [{"name": "a"}, {"name": "c"}],
            "kl_target": None,
        },
        "name": "x=y",
        "model": {"path": "tiny", "lora": None},
        "reward": {"objectives": ["a", "b"]},
    }
    assert row == before
    assert apply_overrides({"a": None}, ["a.b=1"]) == {"a": {"b": 1}}
    assert apply_overrides({}, ["a=1", "a=2"]) == {"a": 2}


@pytest.mark.parametrize("override", ["steps", "=1", "name.x=1", "v.2=1", "v.x=1", "v.0.a.b=1", "s={"])
def test_overrides_that_make_no_sense(override: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"--set {override}")):
        apply_overrides({"name": "r", "v": [{"a": 1}, {}], "s": {}}, [override])


def test_a_run_reads_back_what_it_wrote(tmp_path: Path) -> None:
    row = {
        **MINIMAL,
        "reward": {},
        "ppo": {"variants": [{"name": "a", "scalarizer": {"type": "chebyshev", "mu": 0.25}}]},
    }
    config = parse_config(row, RunConfig, "test")
    path = tmp_path / "config.yaml"
    path.write_text(dump_yaml(config))
    again = load_config(path, RunConfig)
    assert again == config
    assert again.ppo is not None
    assert again.ppo.variants[0].scalarizer == Chebyshev(mu=0.25)


def test_data_may_be_a_folder() -> None:
    assert parse_config({"name": "r", "data": "data/mix"}, RunConfig, "test").data == "data/mix"
    with pytest.raises(UserError, match="test: data: needs a section with sources, or the folder"):
        parse_config({"name": "r", "data": 3}, RunConfig, "test")
    with pytest.raises(UserError, match="test: data: missing"):
        parse_config({"name": "r"}, RunConfig, "test")


def test_the_model_of_a_stage() -> None:
    row = {**MINIMAL, "model": {"path": "a/b"}, "sft": {}, "reward": {"model": {"path": "c/d"}}}
    config = parse_config(row, RunConfig, "test")
    assert config.sft is not None
    assert config.reward is not None
    assert config.stage_model(config.sft).path == "a/b"
    assert config.stage_model(config.reward).path == "c/d"


def test_a_stage_overrides_only_what_it_sets(tmp_path: Path) -> None:
    """A stage that sets its adapters keeps the run's model; also in the config that the run's folder keeps."""
    lora = apply_overrides(read_yaml(ROOT / "configs/qwen2_5_vl_3b.yaml"), ["ppo.model={lora: {r: 8}}"])
    config = parse_config(lora, RunConfig, "test")
    written = tmp_path / "config.yaml"
    written.write_text(dump_yaml(config))
    for found in (config, load_config(written, RunConfig)):
        assert found.ppo is not None
        model = found.stage_model(found.ppo)
        assert model.path == "Qwen/Qwen2.5-VL-3B-Instruct"
        assert model.max_pixels == 401408
        assert model.lora == LoraSettings(r=8, alpha=64)  # alpha is the run's
        assert found.starts_from_sft(found.ppo)
        assert found.before_ppo == "sft"


def test_a_stage_may_do_without_the_adapters_of_the_run() -> None:
    row = {**MINIMAL, "model": {"path": "a/b", "lora": {"r": 4}}, "sft": {"model": {"lora": None}}}
    config = parse_config(row, RunConfig, "test")
    assert config.sft is not None
    assert config.stage_model(config.sft) == ModelConfig(path="a/b")


def test_what_ppo_starts_from() -> None:
    def before(**sections: object) -> str:
        return parse_config({**MINIMAL, "reward": {}, **sections}, RunConfig, "test").before_ppo

    assert before(sft={}, ppo={}) == "sft"
    assert before(sft={}) == "sft"
    assert before(ppo={}) == "base"
    assert before(sft={}, ppo={"model": {"path": "tiny"}}) == "base"
    assert before(sft={}, reward={"model": {"path": "c/d"}}, ppo={"model": {"dtype": "float32"}}) == "sft"


COMMAND = re.compile(r"mmrlhf run (configs/\S+)((?: --set \S+)*)")


def written_commands() -> list[tuple[str, list[str]]]:
    """The config and the overrides of every `mmrlhf run` in the README and in the heads of the configs."""
    found = []
    for path in (ROOT / "README.md", *SHIPPED):
        for config, sets in COMMAND.findall(path.read_text()):
            found.append((config, sets.replace(" --set ", " ").split()))
    return found


def test_the_readme_has_commands() -> None:
    assert (
        "configs/qwen2_5_vl_3b.yaml",
        ["data.sources.0.path=pairs.jsonl", "name=first"],
    ) in written_commands()


@pytest.mark.parametrize(("name", "sets"), written_commands(), ids=str)
def test_a_written_command_reads_only_the_files_it_names(name: str, sets: list[str]) -> None:
    config = load_config(ROOT / name, RunConfig, sets)
    assert isinstance(config.data, DataConfig)
    paths = [str(source.path) for source in config.data.sources if hasattr(source, "path")]
    assert paths == [item.partition("=")[2] for item in sets if ".path=" in item]


def test_the_dtype_of_weights() -> None:
    import torch

    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    auto = ModelConfig()
    assert [auto.torch_dtype(cpu), auto.torch_dtype(gpu)] == [torch.float32, torch.bfloat16]
    assert auto.torch_dtype(gpu, full_training=True) == torch.float32
    assert ModelConfig(dtype="bfloat16").torch_dtype(cpu) == torch.bfloat16


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("ppo.steps=1e23", r"ppo\.steps: is beyond all use; at most 2,147,483,647"),
        ("ppo.steps=true", r"ppo\.steps: needs a number, not true"),
        ("ppo.batch_size=1e12", r"ppo\.batch_size: .*less than or equal to 1000000"),
        ("sft.batch_size=1000001", r"sft\.batch_size: .*less than or equal to 1000000"),
        ("sft.epochs=1e23", r"sft\.epochs: .*less than or equal to 1000000"),
        ("sft.optim.lr=true", r"sft\.optim\.lr: needs a number"),
        ("reward.members=1e23", r"reward\.members: is beyond all use"),
        ("reward.optim.betas=[0.9, true]", r"reward\.optim\.betas: needs a number"),
        ("ppo.variants.0.scalarizer={type: weighted_sum, weights: {factuality: true}}", "needs a number"),
        ("data.sources.0.count=1e12", r"data\.sources\.0\.\w+: "),
        ("engine.checkpoint_every=.inf", r"engine\.checkpoint_every: "),
        ("evaluate.temperature=.nan", r"evaluate\.temperature: .*finite"),
        ("seed=1e23", "seed: is beyond all use"),
    ],
)
def test_numbers_that_nobody_means_are_refused_by_their_key(override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_config("configs/quickstart.yaml", RunConfig, [override])
