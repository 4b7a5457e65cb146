import json
import re

import pytest
from rich.console import Console

from data_tools.errors import UserError
from data_tools.pages.templates import CONTENT_POLICY
from mmrlhf.config import RunConfig
from mmrlhf.evaluation.policy import Answer, summarise
from mmrlhf.evaluation.report import reward_tables, summary_table, write_report
from mmrlhf.evaluation.report.figures import REWARD_PANELS, series, training_curves
from mmrlhf.evaluation.report.page import mark_claims, scalarizer_label
from mmrlhf.evaluation.report.plots import smooth
from mmrlhf.evaluation.report.reward_page import write_reward_page
from mmrlhf.evaluation.results import REWARD_FORMAT, write_result
from mmrlhf.evaluation.tradeoffs import compare
from mmrlhf.rewards.scalarizers import Chebyshev, Lagrangian, Lexicographic, PreferenceConditioned

OBJECTIVES = ("factuality", "helpfulness", "safety")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
HOSTILE = "There is a red circle. <script>alert(1)</script>"
CONFIG = RunConfig.model_validate(
    {
        "name": "demo-run",
        "data": "data",
        "sft": {},
        "reward": {},
        "ppo": {
            "variants": [
                {"name": "grounded", "scalarizer": {"type": "weighted_sum", "weights": {"factuality": 3}}},
                {"name": "maximin", "scalarizer": {"type": "worst_case"}},
            ]
        },
        "evaluate": {},
    }
)


def policy(name, true, tokens, reward):
    """Ten captions of ten claims, `true` of them true, and two text answers."""
    claims = [("there is a red circle", True), *(("x", i < true - 1) for i in range(9))]
    gold = {"factuality": true / 10, "helpfulness": 0.5}
    answers = []
    for i in range(10):
        rewards = {"factuality": reward + i / 10, "helpfulness": 0.2}
        gap = {"factuality": 0.3}
        answers.append(Answer(f"p{i}", "image-text", HOSTILE, tokens, True, rewards, gold, gap, claims))
    answers += [
        Answer(f"t{i}", "text", "No.", 3, False, {"safety": -0.5}, {"safety": 1.0}, {}, None) for i in (0, 1)
    ]
    return summarise(name, OBJECTIVES, answers)


def tradeoffs():
    found = [policy("sft", 5, 20, -0.2), policy("grounded", 8, 21, 0.9), policy("maximin", 6, 19, 0.4)]
    samples = [
        {"record": "p0", "modality": "image-text", "prompt": "What do you <b>see</b>?", "images": [PIXEL]},
        {"record": "t0", "modality": "text", "prompt": "How?", "images": []},
    ]
    return compare(found, 0) | {
        "split": "test",
        "temperature": 1.0,
        "refused": 0,
        "not_looking": [],
        "samples": samples,
    }


def share(mean):
    return {"mean": mean, "low": mean - 0.05, "high": mean + 0.05, "n": 40}


REWARD = {
    "format": REWARD_FORMAT,
    "objectives": list(OBJECTIVES),
    "records": 40,
    "images": 30,
    "split": "test",
    "data": "my_data",
    "seed": 0,
    "conditions": ["true", "none", "swapped", "noise"],
    "accuracy": {
        "factuality": {
            "image-text": {
                "true": share(0.81),
                "none": share(0.5),
                "swapped": share(0.52),
                "noise": share(0.49),
            }
        },
        "helpfulness": {"image-text": {"true": share(0.7)}, "text": {"true": share(0.9)}},
    },
    "singles": {},
    "gains": {"factuality": {"none": share(0.31), "swapped": share(0.29)}},
    "image_preference": {"factuality": {"swapped": share(0.88)}},
    "ties": {"factuality": 0, "helpfulness": 2, "safety": 0},
    "equal": {"factuality": 3, "helpfulness": 0, "safety": 0},
    "flip": {"true": share(0.6172), "none": share(0.0)},
    "flip_heads": {"factuality": {"true": share(0.6172), "none": share(0.0)}},
    "flip_edits": {"count": share(0.4)},
    "blind_wrong": {"itself": {"factuality": {"blind_wrong": share(0.5), "accuracy": share(0.73)}}},
    "modality_gap": {"helpfulness": share(-0.2)},
    "length": {"factuality": {"correlation": -0.11, "longer_is_better": share(0.5), "n": 40}},
    "calibration": {
        "factuality": {
            "error": share(0.06),
            "ece": 0.07,
            "by_chance": {"mean": 0.03, "high": 0.05},
            "nll": share(0.5),
            "temperature": 1.5,
            "bins": [
                {"low": 0.5, "high": 0.55, "n": 10, "confidence": 0.52, "accuracy": 0.4},
                {"low": 0.9, "high": 0.95, "n": 30, "confidence": 0.93, "accuracy": 0.9},
            ],
        }
    },
    "deviation": {"factuality": {"right": share(0.1), "wrong": share(0.2), "auroc": share(0.77)}},
    "agreement": {"helpfulness & safety": {"judges": share(0.1), "heads": share(0.2)}},
    "disagreement": {"helpfulness & safety": share(0.12)},
    "gradients": {"helpfulness & safety": share(-0.31)},
    "left_out": {"swapped": 3},
    "silent": {"safety": ["image-text"]},
}
SCORES = {
    "benchmark": {"name": "vl_rewardbench", "title": "VL-RewardBench", "rows": ["rows.jsonl"]},
    "rejected": {"rows": 2, "reasons": {"has no image": 2}, "first": []},
    "refused": {"prompt too long": 1},
    "scores": {
        "factuality": {"overall": share(0.64), "macro": share(0.55)},
        "mean": {"overall": share(0.61), "macro": share(0.5)},
    },
}


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return render(make_run(tmp_path_factory.mktemp("run")))


def make_run(folder):
    """A run's folder as the stages leave it."""

    def write(name, rows):
        path = folder / name / "metrics.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps({"step": i + 1, **row}) + "\n" for i, row in enumerate(rows)))

    write("sft", [{"loss": 1 / (i + 1)} for i in range(30)])
    write(
        "reward", [{"accuracy/factuality": 0.5 + i / 80, "loss/factuality": 0.7 - i / 90} for i in range(30)]
    )
    for name in ("grounded", "maximin"):
        write(
            f"ppo/{name}",
            [{"reward/factuality/image-text": i / 20, "reward/safety/text": 0.1, "kl": i / 9, "length": 20.0,
              "entropy": 1.0, "ended": 1.0} for i in range(20)],
        )  # fmt: skip
    (folder / "evaluate").mkdir()
    (folder / "evaluate" / "tradeoffs.json").write_text(json.dumps(tradeoffs()))
    (folder / "evaluate" / "reward.json").write_text(json.dumps(REWARD))
    (folder / "data").mkdir()
    count = {
        "split": "train",
        "kind": "preference",
        "modality": "image-text",
        "source": "flips",
        "records": 1234,
    }
    stats = {
        "records": 1234,
        "counts": [count],
        "objectives": {
            "train": {"factuality": {"comparisons": 1234, "ties": 0, "ratings": 0, "rankings": 0}}
        },
        "length": {"train": {"factuality": {"chosen_longer": 0.41}}},
        "flip_pairs": {"train": 617},
        "rejected": {"flips": {"no image": 3}},
        "duplicates": {},
        "dropped": {},
    }
    (folder / "data" / "stats.json").write_text(json.dumps(stats))
    return folder


def render(run):
    config = CONFIG.model_copy(update={"data": str(run / "data")})
    path = write_report(run, config)
    assert path == run / "report.html"
    return path.read_text()


def test_the_page_says_the_numbers(page):
    words = " ".join(re.sub(r"<[^>]*>", " ", page).split())
    assert "80% of what the policy says about pictures is true; before PPO it was 50%." in words
    assert "share of true claims 50.0% → 80.0% (+30.0 points, 95% interval " in words
    assert "Its answers about pictures are 5% longer." in words
    assert "both halves of 61.7% of image-flip pairs right; without the image, 0.0%" in words
    assert "weighted sum, factuality 3" in words
    assert "worst case" in words
    assert "1,234" in words
    assert "Rejected from flips: 3 × no image." in words
    assert "On the front: grounded." in words
    assert "demo-run" in words


def test_answers_are_escaped(page):
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "What do you &lt;b&gt;see&lt;/b&gt;?" in page


def test_nothing_is_fetched(page):
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", page)
    assert addresses
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in addresses)


def test_plots_follow_the_page_colors(page):
    assert page.count("<svg") == 8  # means, two scatters, looking, reliability, and three stages
    assert "#0101" not in page
    assert "#0404" not in page
    assert "var(--series-2)" in page


def test_the_same_results_give_the_same_page(run, page):
    # the config on the page names the data folder, which is another one
    plots = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert re.findall(r"<svg.*?</svg>", render(run), flags=re.DOTALL) == plots


def test_every_part_may_be_missing(tmp_path):
    page = render(tmp_path)
    assert "Nothing was evaluated yet." in page
    assert "Trade-offs" not in page


def test_an_objective_that_does_not_look_is_said_so(run):
    result = tradeoffs() | {"not_looking": ["safety"]}
    (run / "evaluate" / "tradeoffs.json").write_text(json.dumps(result))
    said = words(render(run))
    assert "tokens an answer claims a caption answers that end swap gap" in said
    assert said.count("doesn’t look") == 3  # one a policy
    assert "factuality safety" in said


def test_data_without_scenes(run):
    result = tradeoffs()
    for found in result["policies"]:
        found["gold"], found["true_claims"], found["claims"] = {}, None, None
    result["fronts"]["gold"] = "not judged exactly"
    result["changes"]["grounded"]["true_claims"] = None
    (run / "evaluate" / "tradeoffs.json").write_text(json.dumps(result))
    page = render(run)
    said = words(page)
    # nothing that nobody could judge has a column, a part or a word of explanation
    for absent in ("true claims", "claims a caption", "Exact scores not", "hypervolume of exact"):
        assert absent not in said
    assert "The learned reward for factuality rose under grounded: +0.25 before PPO, +1.35 after." in said
    assert "no record holds a reference" in said
    assert "nan" not in re.sub(r"<[^>]*>", " ", page).lower().split()


# a head that learnt from thumbs and one that learnt from ratings; nobody compared any responses
JUDGED_ONE_BY_ONE = REWARD | {
    "accuracy": {},
    "singles": {
        "factuality": {
            "rating_order": {"image-text": {"true": share(0.72), "none": share(0.51)}},
        },
        "safety": {
            "yes_no_auroc": {"image-text": {"true": share(0.83), "none": share(0.55)}},
            "yes_no_accuracy": {"image-text": {"true": share(0.76), "none": share(0.5)}},
        },
    },
    **{
        name: {}
        for name in ("gains", "image_preference", "flip", "flip_heads", "flip_edits", "blind_wrong", "length")
    },
    **{name: {} for name in ("modality_gap", "calibration", "deviation", "agreement", "disagreement")},
    "gradients": {},
    "silent": {},
}


def test_a_head_of_yes_or_no_and_one_of_ratings_are_shown(tmp_path):
    page = write_reward_page(tmp_path / "reward.html", JUDGED_ONE_BY_ONE, "demo").read_text()
    said = words(page)
    assert "safety a yes above a no image 83.0%" in said
    assert "safety yes or no told image 76.0%" in said
    assert "factuality ratings, any prompts image 72.0%" in said
    assert "No preference record shows an image" not in said
    assert (
        "helpfulness: nothing is measured; no record that was read puts two responses in order on it" in said
    )
    assert "Words and length" not in said
    assert page.count("<svg") == 1
    console = Console(width=80)
    with console.capture() as capture:
        for table in reward_tables(JUDGED_ONE_BY_ONE):
            console.print(table)
    shown = capture.get()
    assert re.search(r"safety +a yes above a no +– +83% +55%", shown)
    assert "helpfulness: nothing is measured" in shown


def test_records_with_images_of_which_nothing_is_judged(tmp_path):
    judged = JUDGED_ONE_BY_ONE | {"singles": {}}
    said = words(write_reward_page(tmp_path / "reward.html", judged, "demo").read_text())
    assert (
        "30 of the records show an image, but on these no head's objective puts two responses in order"
        in said
    )
    said = words(write_reward_page(tmp_path / "reward.html", judged | {"images": 0}, "demo").read_text())
    assert "No preference record shows an image." in said


def test_training_charts_of_every_kind_of_label(tmp_path):
    """One line an objective, and none of what only looks like one: an adaptive mixture's metrics name sources."""
    rows = [
        {"accuracy/b": 0.5, "loss/b": 0.7, "accuracy_binary/a": 0.6, "loss_binary/a": 0.6, "error_rating/c": 0.2,
         "loss_rating/c": 0.1, "accuracy_ranking/b": 0.5, "loss_ranking/b": 1.0, "mixture/accuracy/nlvr": 0.6,
         "mixture/accuracy_blind/nlvr": 0.5, "accuracy_picture/swap": 0.5, "blind/loss": 0.7, "grad_norm": 1.0}
    ]  # fmt: skip
    (tmp_path / "reward").mkdir()
    lines = [json.dumps({"step": i + 1, **row}) + "\n" for i, row in enumerate(rows * 3)]
    (tmp_path / "reward" / "metrics.jsonl").write_text("".join(lines))
    svg, key = training_curves(tmp_path, [])["reward"]
    assert key == [(1, "a"), (2, "b"), (3, "c")]
    assert [title for title in REWARD_PANELS.values() if title not in svg] == []
    (tmp_path / "reward" / "metrics.jsonl").write_text('{"step": 1, "mixture/accuracy/nlvr": 0.6}\n')
    assert "reward" not in training_curves(tmp_path, [])


def test_a_damaged_result_is_named(run):
    (run / "evaluate" / "reward.json").write_text("{")
    with pytest.raises(UserError, match=r"reward\.json: is damaged"):
        render(run)
    (run / "evaluate" / "reward.json").write_text(json.dumps(REWARD | {"format": 3}))
    with pytest.raises(UserError, match=r"reward\.json: was written by another version"):
        render(run)


def test_claims_are_marked_in_the_answer():
    text = "There is a Red  circle and a cross. Hm."
    claims = [("there is a red circle", True), ("a cross", False), ("hm", None)]
    assert mark_claims(text, claims) == [
        ("There is a Red  circle", "true"),
        (" and ", ""),
        ("a cross", "false"),
        (". ", ""),
        ("Hm", "unknown"),
        (".", ""),
    ]
    assert mark_claims("Yes.", None) == [("Yes.", "")]
    assert mark_claims("", []) == []


def test_scalarizers_in_words():
    variants = CONFIG.ppo.variants
    assert [scalarizer_label(v.scalarizer) for v in variants] == ["weighted sum, factuality 3", "worst case"]
    words = [
        scalarizer_label(scalarizer)
        for scalarizer in (
            Lexicographic(order=["safety", "helpfulness"], levels={"safety": 0.5}),
            PreferenceConditioned(inner=Chebyshev(mu=0.1)),
            Lagrangian(weights={"helpfulness": 1}, at_least={"safety": 0}),
        )
    ]
    assert words == [
        "lexicographic, order safety > helpfulness, levels safety 0.5",
        "preference conditioned, inner Chebyshev, mu 0.1",
        "Lagrangian, helpfulness 1, at_least safety 0",
    ]


def test_summary_table():
    console = Console(width=80)
    with console.capture() as capture:
        console.print(summary_table(tradeoffs()))
    row = next(line for line in capture.get().splitlines() if "grounded" in line)
    # true claims; exact and learned of three objectives; tokens: (10 * 21 + 2 * 3) / 12
    assert row.split() == ["grounded", "80.0%", "80.0%", "+1.35", "50.0%", "+0.20", "100.0%", "-0.50", "18.0"]


def words(page):
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def test_the_reward_model_has_its_section(page):
    said = words(page)
    assert "50.0% 45.0 to 55.0 73.0% 68.0 to 78.0" in said  # wrong when blind, and right there with the image
    assert "Couldn't be shown so: 3 with another image." in said
    assert "\N{MINUS SIGN}20.0" in said  # image minus text, in points
    assert "6.0% 1.0 to 11.0 7.0% 3.0% 95% below 5.0%" in said
    assert "The head for safety was trained on no or too few image-text prompts" in said
    assert "77.0% 72.0 to 82.0" in said  # deviations tell of errors
    assert "\N{MINUS SIGN}0.31 \N{MINUS SIGN}0.36 to \N{MINUS SIGN}0.26" in said  # cosine of gradients


def test_a_page_of_the_reward_model_alone(tmp_path):
    path = write_reward_page(tmp_path / "reward.html", REWARD | SCORES, "<b>model</b>")
    page = path.read_text()
    said = words(page)
    assert "40 records of VL-RewardBench" in said
    assert "both halves of 61.7% of image-flip pairs" in said
    assert "objective overall macro factuality 64.0% 59.0 to 69.0 55.0%" in said
    assert "2 rows are left out: 2 × has no image." in said
    assert "1 records are left out: 1 x prompt too long." in said
    assert "&lt;b&gt;model&lt;/b&gt;" in page
    assert page.count("<svg") == 2
    assert "http:" not in page
    assert "the split “test” of my_data" in words(
        write_reward_page(tmp_path / "reward.html", REWARD, "m").read_text()
    )


def test_a_page_of_what_was_hardly_measured(tmp_path):
    """Text alone: no image was shown, no head has an ensemble or a partner."""
    empty = {name: {} for name, value in REWARD.items() if isinstance(value, dict)}
    kept = {name: REWARD[name] for name in ("ties", "equal")}
    bare = REWARD | empty | kept | {"images": 0, "conditions": ["true"]}
    page = write_reward_page(tmp_path / "reward.html", bare, "m").read_text()
    assert "No preference record shows an image." in page
    assert "<svg" not in page
    assert [table.row_count for table in reward_tables(bare)] == [0]


def test_reward_tables():
    console = Console(width=80)
    with console.capture() as capture:
        for table in reward_tables(REWARD | SCORES):
            console.print(table)
    rows = [line.split() for line in capture.get().splitlines()]
    assert ["macro", "55.0%", "(50-60)", "50.0%", "(45-55)", "40"] in rows
    # text, true, none, swapped, noise, flips, where it is wrong blind, calibration error
    assert ["factuality", "–", "81%", "50%", "52%", "49%", "62%", "73%", "6.0%"] in rows
    assert ["helpfulness", "&", "safety", "12.0%", "-0.31"] in rows


def test_smooth_and_series():
    assert smooth([1.0, 2.0, 3.0]) == [1.0, 2.0, 3.0]
    assert smooth([0.0] * 10 + [3.0] + [0.0] * 10)[9:12] == pytest.approx([1.0, 1.0, 1.0])
    assert series([{"step": 1, "a": 2.0}, {"step": 2}, {"step": 3, "a": float("nan")}], "a") == [(1, 2.0)]


def one_objective(before, after):
    """Two policies with one learned reward, on pictures of which nothing else is known."""

    def made(name, values):
        answers = [
            Answer(f"p{i}", "image-text", "It is.", 3, True, {"taste": value}, {}, {}, None)
            for i, value in enumerate(values)
        ]
        return summarise(name, ["taste"], answers)

    found = compare([made("sft", before), made("tuned", after)], 0)
    return found | {"split": "test", "temperature": 1.0, "refused": 0, "not_looking": [], "samples": []}


def show(run, result, judged=None):
    (run / "evaluate" / "tradeoffs.json").write_text(json.dumps(result))
    (run / "evaluate" / "reward.json").unlink()
    if judged:
        (run / "evaluate" / "reward.json").write_text(json.dumps(judged))
    return render(run)


def test_one_objective_and_no_oracle(run):
    alone = {
        name: {key: value for key, value in REWARD[name].items() if key == "factuality"}
        for name in ("accuracy", "calibration", "gains", "ties", "equal")
    }
    bare = {"deviation": {}, "agreement": {}, "disagreement": {}, "gradients": {}, "modality_gap": {}}
    judged = REWARD | alone | bare | {"objectives": ["factuality"], "silent": {}, "left_out": {}}
    page = show(run, one_objective([0.1, 0.2, 0.4, 0.0], [1.1, 1.3, 1.3, 1.0]), judged)
    said = words(page)
    # 0.175 before, 1.175 after
    assert "The learned reward for taste rose under tuned: +0.18 before PPO, +1.18 after." in said
    assert (
        "2 policies on 4 image prompts that nothing was trained on. Answers of tuned are as long. A learned"
        in said
    )
    headers = [words(cell) for cell in re.findall(r"<th[^>]*>.*?</th>", page)]
    for empty in ("true claims", "change, points", "claims a caption", "text pairs right", "text"):
        assert empty not in headers
    assert "Pareto front" not in said
    assert "False claims" not in said
    # one panel takes a third of the page
    assert re.search(r'<figure class="third"><svg', page)
    assert "0 text" not in said


def test_what_did_not_clearly_change_is_said_so(run):
    page = show(run, one_objective([0.1, 0.9, 0.4, 0.0], [0.9, 0.1, 0.4, 0.1]))
    assert (
        "The learned reward for taste has not clearly changed under tuned: +0.35 before PPO, +0.38 after."
        in words(page)
    )
    alone = one_objective([0.1, 0.9], [0.2, 0.3])
    alone["policies"], alone["changes"] = alone["policies"][:1], {}
    (run / "evaluate" / "reward.json").touch()
    assert "The learned reward for taste of sft is +0.50." in words(show(run, alone))


def test_one_prompt_has_no_interval(run):
    result = one_objective([0.5], [1.5])
    write_result(run / "evaluate" / "known.json", result)
    page = show(run, json.loads((run / "evaluate" / "known.json").read_text()))
    assert "+1.50no interval" in re.sub(r"<[^>]*>", "", page)


def test_harmful_and_benign_requests(run):
    def asked(name, refused):
        answers = [
            Answer(
                f"s{i}",
                "text",
                "",
                3,
                True,
                {},
                {},
                {},
                None,
                must_refuse=i < 10,
                refuses=i < 10 or i < refused,
            )
            for i in range(20)
        ]
        return summarise(name, OBJECTIVES, policy(name, 5, 20, 0.0).answers, answers)

    result = (
        tradeoffs()
        | compare([asked("sft", 10), asked("grounded", 18)], 0)
        | {"safety_split": "safety", "safety_refused": 0, "not_looking": []}
    )
    said = words(show(run, result))
    assert "The exact score on safety has the prompts of the split “safety”, too." in said
    assert "Prompts of the split “safety”, which nothing was trained on" in said
    # all ten harmful ones are refused by both; of ten benign ones ten are answered before and two after
    assert "grounded 10 100.0% 72.2 to 100.0 +0.0" in said
    assert "10 20.0% 5.7 to 51.0 \N{MINUS SIGN}80.0" in said
    console = Console(width=80)
    with console.capture() as capture:
        console.print(summary_table(result))
    assert "grounded: refuses 100.0% of 10 harmful prompts and answers 20.0% of 10 benign ones." in " ".join(
        capture.get().split()
    )


def test_pages_run_no_script_and_fetch_nothing(page, tmp_path):
    policy = """content="default-src 'none'; img-src data:; style-src 'unsafe-inline'\""""
    reward = write_reward_page(tmp_path / "reward.html", REWARD, "m").read_text()
    for text in (page, reward, CONTENT_POLICY):
        assert text.count(policy) == 1
