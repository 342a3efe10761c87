from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import parity
import pytest
import torch
from hydra.utils import instantiate
from parity_checks import inference, text, trainer, training
from parity_checks.bundle import Bundle, BundleError
from parity_checks.inference import named_cases
from parity_checks.model import Rebuilt, rebuild
from parity_checks.rebuild import make_config, normal
from parity_checks.rows import Table, first_difference, relative_difference, render, slice_starts
from parity_checks.sampler import make_scheduler
from safetensors.torch import load_file, save_file

QUICK = tuple(name for name in parity.CHECKS if name not in ("the trainer's steps", "plain loops"))


def _copy(bundle: Path, folder: Path, *, without: str = "nothing") -> Path:
    return Path(shutil.copytree(bundle, folder / "bundle", ignore=shutil.ignore_patterns(without)))


def _failed(table: Table) -> list[tuple[str, str]]:
    return [(row.group, row.check) for row in table.rows if row.status == "failed"]


@pytest.fixture(scope="module")
def rebuilt(made: Path) -> Rebuilt:
    """The model of the bundle that our own code made."""
    return rebuild(Bundle(made), Table())


@pytest.fixture(scope="module")
def recorded_table(recorded: Path) -> Table:
    return parity.run(Bundle(recorded), QUICK)


@pytest.mark.parametrize(
    ("group", "check"),
    [
        ("weights", "hashes of the drawn tensors"),
        ("weights", "which train"),
        ("text", "training ids"),
        ("text", "training labels"),
        ("text", "training attention mask"),
        ("text", "v5_trunc ids"),
        ("text", "v5_trunc labels"),
        ("text", "demo prompt, cached"),
        ("text", "demo prompt, slow"),
        *((f"training {step}", loss) for step in ("v4_edge", "v5_trunc") for loss in ("loss_ce", "loss_edit", "loss")),
        *((f"training {step}", what) for step in ("v4_edge", "v5_trunc") for what in ("[IMG] slice", "slice start")),
        ("training v4_edge", "which condition"),
        ("training v4_edge", "image dropped"),
        ("training with a separator in a text", "instruction loss, both"),
        ("training with a separator in a text", "instruction loss, only_bad"),
        ("training with a float16 vision tower", "loss_ce"),
        *(
            (f"edit {case}", what)
            for case in ("B_img_eos", "I_slow_img_eos")
            for what in ("prompt ids", "generated ids", "[IMG] slice")
        ),
    ],
)
def test_recorded_numbers(recorded_table: Table, group: str, check: str) -> None:
    rows = [row for row in recorded_table.rows if (row.group, row.check) == (group, check)]

    assert [row.status for row in rows] == ["ok"], rows


def test_nothing_recorded_fails(recorded_table: Table) -> None:
    assert _failed(recorded_table) == []
    assert recorded_table.count("ok") >= 35


def test_recorded_learning_rates(recorded: Path) -> None:
    steps = Bundle(recorded).json("trainer_run.json")["steps"]
    config = make_config(Bundle(recorded))
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = instantiate(config.optimizer, _convert_="all")([("unet.x", parameter)])
    schedule = instantiate(config.schedule, _convert_="all")(optimizer, num_steps=len(steps))

    rates = []
    for _ in steps:
        optimizer.step()
        schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])

    assert rates == pytest.approx([step["lr_logged_after_step"] for step in steps], rel=1e-6, abs=1e-12)


@pytest.mark.slow
def test_a_whole_recording() -> None:
    folder = os.environ.get("MGIE_REFERENCE_BUNDLE")
    if not folder:
        pytest.skip("MGIE_REFERENCE_BUNDLE is not set: it names a folder with a recorded run of the released code")

    table = parity.run(Bundle(Path(folder)))

    assert _failed(table) == []
    assert table.count("ok") > 200


def test_a_bundle_of_other_sizes(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"

    status = parity.main(["--golden", str(made), "--json", str(file)])

    last = capsys.readouterr().out.splitlines()[-1]
    written = json.loads(file.read_text())
    assert status == 0
    assert re.fullmatch(r"1\d\d ok, 0 failed, 4 absent", last)
    assert {row["status"] for row in written["rows"]} == {"ok", "absent"}
    assert written["versions"]["torch"] == torch.__version__
    assert written["summary"]["ok"] == int(last.split()[0])


def test_files_are_missing(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    missing = ("train_v2*", "train_v5*", "train_v0_all_gradnorms.json", "infer_A*", "infer_half*", "demo*", "tiny*")
    shutil.copytree(made, folder, ignore=shutil.ignore_patterns(*missing))
    bundle = Bundle(folder)

    table = parity.run(bundle, QUICK)

    absent = {(row.group, row.check) for row in table.rows if row.status == "absent"}
    assert _failed(table) == []
    assert {
        ("training v2", "losses"),
        ("training v2", "UNet output"),
        ("text", "v5_cut ids and labels"),
        ("gradients v0_all", "gradient norm of every tensor"),
        ("edit A_fast", "the whole edit"),
        ("edit J_ddim", "the whole edit"),  # it needs the null condition of A
        ("edit head from half-precision files", "null condition"),
        ("text", "demo prompt, slow"),
        ("weights", "stored weights are the drawn ones"),
    } <= absent
    assert bundle.missing_core() == ["tiny_weights.safetensors", "train_v2*.safetensors"]


@pytest.mark.parametrize("file", ["train_manifest.json", "tokenizer.model"])
def test_no_model_without_these(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str) -> None:
    bundle = _copy(made, tmp_path, without=file)

    assert parity.main(["--golden", str(bundle)]) == 1

    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"0 ok, 0 failed, {len(parity.CHECKS) + 1} absent"
    assert lines[-2] == f"required core incomplete, missing: {file}"


@pytest.mark.slow
def test_no_inputs(made: Path, tmp_path: Path) -> None:
    table = parity.run(Bundle(_copy(made, tmp_path, without="train_inputs.safetensors")))

    assert _failed(table) == []
    assert ("training v0_all", "absent") in {(row.group, row.status) for row in table.rows}
    assert ("edit A_fast", "ok") in {(row.group, row.status) for row in table.rows}


@pytest.mark.slow
def test_no_inference_manifest(made: Path, tmp_path: Path) -> None:
    bundle = Bundle(_copy(made, tmp_path, without="infer_manifest.json"))
    table = parity.run(bundle, ("edits", "demo prompts"))

    assert _failed(table) == []
    assert {row.status for row in table.rows if row.group.startswith("edit")} == {"absent"}
    assert bundle.missing_core() == []


@pytest.mark.parametrize(
    ("files", "is_whole"),
    [
        ({"infer_A.safetensors": ""}, True),  # the manifest may be missing
        ({"infer_A.safetensors": "", "infer_manifest.json": '{"cases": {"A": {}}}'}, True),
        ({"infer_A.safetensors": "", "infer_manifest.json": '{"cases": {"B": {}}}'}, False),
        ({"infer_A.safetensors": "", "infer_manifest.json": "{"}, True),  # its own checks fail
        ({"infer_half.safetensors": ""}, False),
    ],
)
def test_core_of_the_edits(tmp_path: Path, files: dict[str, str], is_whole: bool) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)

    missing = "infer_<case>.safetensors with its entry in infer_manifest.json"
    assert (missing not in Bundle(tmp_path).missing_core()) == is_whole


def test_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main(["--golden", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("0 ok, 0 failed, ")


def test_no_trainer_run(rebuilt: Rebuilt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bundle, "json", lambda *_: {})
    table = Table()

    trainer.check_trainer(rebuilt, table)
    trainer.check_plain_loops(rebuilt, table)

    assert {row.status for row in table.rows} == {"absent"}
    assert [row.check for row in table.rows][-2:] == ["learning rate after the step", "losses and gradient norms"]


@pytest.mark.faults
@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train_manifest.json", b"{", "train_manifest.json: expected a JSON file"),
        ("train_manifest.json", b'{"seed": 1}', "expected sizes of all parts, 'config' is missing"),
    ],
)
def test_a_damaged_manifest(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, content: bytes, message: str
) -> None:
    bundle = _copy(made, tmp_path)
    (bundle / file).write_bytes(content)

    assert parity.main(["--golden", str(bundle)]) == 2

    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out.splitlines()[-1] == "0 ok, 1 failed, 0 absent"


@pytest.mark.faults
@pytest.mark.parametrize(
    ("file", "checks", "group"),
    [
        ("trainer_run.json", ("the trainer's steps",), "the trainer's steps"),
        ("infer_manifest.json", ("edits",), "edits"),
        ("demo_prompt_ids.json", ("demo prompts",), "demo prompts"),
        ("infer_half.safetensors", ("half-precision files",), "half-precision files"),
        ("tiny_weights.safetensors", (), "weights"),
        ("train_inputs.safetensors", ("training ids and labels",), "text"),
    ],
)
def test_a_damaged_file_fails_alone(
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    checks: tuple[str, ...],
    group: str,
) -> None:
    bundle = _copy(made, tmp_path)
    (bundle / file).write_bytes(b"[1]")
    monkeypatch.setattr(parity, "run", lambda bundle, run=parity.run: run(bundle, ("names of the weights", *checks)))

    status = parity.main(["--golden", str(bundle), "--json", str(tmp_path / "rows.json")])

    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    failed = [row for row in rows if row["status"] == "failed"]
    assert status == 1
    assert {row["group"] for row in failed} == {group}
    assert all(f"{file}: expected a" in row["note"] for row in failed)
    assert re.fullmatch(r"\d+ ok, [12] failed, \d+ absent", capsys.readouterr().out.splitlines()[-1])


@pytest.mark.faults
def test_a_damaged_step_fails_alone(rebuilt: Rebuilt, monkeypatch: pytest.MonkeyPatch) -> None:
    def tensors(_: Bundle, name: str) -> dict[str, torch.Tensor]:
        if name == "v1_null":
            raise BundleError("train_v1_null.safetensors: broken")
        return {}

    monkeypatch.setattr(Bundle, "step_tensors", tensors)
    table = Table()

    training.check_steps(rebuilt, table)

    assert _failed(table) == [("training v1_null", "the whole step")]
    assert ("training v3_edge", "absent") in {(row.group, row.status) for row in table.rows}


@pytest.mark.parametrize("starts", [[5, 6, 7], [4, 4, 7]])
def test_no_single_sample_with_a_separator(
    rebuilt: Rebuilt, monkeypatch: pytest.MonkeyPatch, starts: list[int]
) -> None:
    results = {"v0": {"p": [5, 6, 7]}, "odd": {"both": {"p": starts, "loss_ce": 1.0}, "only_bad": {"loss_ce": 1.0}}}
    monkeypatch.setattr(Bundle, "results", results)
    table = Table()

    training.check_ignored_text(rebuilt, table)

    assert [(row.status, row.note) for row in table.rows] == [("absent", "which sample holds the separator")]


@pytest.mark.parametrize(("key", "style"), [("slow", text.SLOW), ("cached", text.FAST)])
def test_an_instruction_from_the_demo_prompt(
    rebuilt: Rebuilt, monkeypatch: pytest.MonkeyPatch, key: str, style: str
) -> None:
    prompt = rebuilt.guide.prompt
    with text.tokenised(prompt, style):
        ids = prompt.prompt_ids("say 'no', it's\tso  odd")
    wrong = [*ids[:-1], ids[-1] + 1]
    cut = ids[: ids.index(prompt.image_ids[0])]
    assert rebuilt.bundle.cases  # read before the files are replaced
    monkeypatch.setattr(Bundle, "json", lambda *_: {key: ids, f"{key} wrong": wrong, f"{key} cut": cut})
    table = Table()

    text.check_demo_prompts(rebuilt, table)

    assert [row.status for row in table.rows] == ["ok", "failed", "absent"]
    assert table.rows[-1].note == "neither the manifests nor the ids hold its instruction"


@pytest.mark.faults
def test_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main(["--golden", str(tmp_path / "nowhere")]) == 2

    printed = capsys.readouterr()
    assert "--golden: expected a folder with recorded numbers" in printed.err
    assert printed.out.splitlines()[-1] == "0 ok, 1 failed, 0 absent"


@pytest.mark.faults
def test_a_damaged_picture(made: Path, tmp_path: Path) -> None:
    bundle = _copy(made, tmp_path)
    tensors = load_file(bundle / "train_inputs.safetensors")
    save_file(tensors | {"jpeg.0.1": torch.zeros(9, dtype=torch.uint8)}, bundle / "train_inputs.safetensors")

    table = parity.run(Bundle(bundle), ("training images",))

    assert _failed(table) == [("images", "pixels from the JPEG files")]
    assert "the bytes of a JPEG file in jpeg.0.1" in table.rows[-1].note


@pytest.mark.faults
def test_weights_that_do_not_fit(made: Path, tmp_path: Path) -> None:
    bundle = _copy(made, tmp_path)
    manifest = json.loads((bundle / "train_manifest.json").read_text())
    del manifest["weights"]["unet.conv_out.bias"]
    (bundle / "train_manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(BundleError, match=r"(?s)weights do not fit.*unet\.conv_out\.bias"):
        parity.run(Bundle(bundle), ())


@pytest.mark.faults
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": None}, "expected seed, and shape and rule of each weight"),
        ({"model_args": {"clip": {"drop_cls": False}}}, r"expected model_args.clip.drop_cls true"),
    ],
)
def test_a_manifest_that_makes_no_model(made: Path, tmp_path: Path, changes: dict[str, object], message: str) -> None:
    bundle = _copy(made, tmp_path)
    manifest = json.loads((bundle / "train_manifest.json").read_text())
    (bundle / "train_manifest.json").write_text(json.dumps(manifest | changes))

    with pytest.raises(BundleError, match=message):
        parity.run(Bundle(bundle), ())


def test_an_older_manifest_has_no_model_args(recorded: Path) -> None:
    manifest = Bundle(recorded).train
    whole = make_config(Bundle(recorded)).size
    older = Bundle(recorded)
    older.__dict__["train"] = {key: value for key, value in manifest.items() if key != "model_args"}

    size = make_config(older).size

    assert size.edit_head == whole.edit_head
    assert size.mllm.language.vocab_size == whole.mllm.language.vocab_size
    assert size.mllm.vision_layer == whole.mllm.vision_layer
    for key in ("block_out_channels", "cross_attention_dim", "attention_head_dim", "in_channels", "out_channels"):
        assert size.unet[key] == whole.unet[key]
    for key in ("block_out_channels", "down_block_types", "norm_num_groups", "scaling_factor"):
        assert size.autoencoder[key] == whole.autoencoder[key]


@pytest.mark.faults
@pytest.mark.parametrize(
    "scheduler", [{"cls": "NoSuchScheduler"}, {}, {"cls": "DDIMScheduler", "beta_schedule": "odd"}]
)
def test_an_unknown_scheduler(scheduler: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"infer_manifest.json: expected the class of a diffusers scheduler"):
        make_scheduler(scheduler)


def test_solvers_end_where_they_did_when_recorded() -> None:
    solver = make_scheduler({"cls": "DPMSolverMultistepScheduler"})
    solver.set_timesteps(4, device=torch.device("cpu"))

    assert float(solver.sigmas[-1]) > 0  # type: ignore[attr-defined]


def test_cases_named_in_a_remark() -> None:
    cases = {"A_random": 0, "A_random_2": 0, "B_img": 0, "C": 0}

    assert named_cases("emb and NULL of case B_img / A_random_2 (NULL = ...)", cases) == ["B_img", "A_random_2"]
    assert named_cases("None", cases) == []


def test_a_wrong_hash_names_the_tensor(made: Path, tmp_path: Path) -> None:
    bundle = _copy(made, tmp_path)
    manifest = json.loads((bundle / "train_manifest.json").read_text())
    manifest["weights"]["unet.conv_out.bias"]["sha256"] = "0" * 64
    (bundle / "train_manifest.json").write_text(json.dumps(manifest))

    row = parity.run(Bundle(bundle), ()).rows[0]

    assert row.status == "failed"
    assert "unet.conv_out.bias" in row.note


@pytest.mark.slow
def test_a_manifest_without_results_is_no_crash(made: Path, tmp_path: Path) -> None:
    bundle = _copy(made, tmp_path)
    manifest = json.loads((bundle / "train_manifest.json").read_text())
    del manifest["results"]
    (bundle / "train_manifest.json").write_text(json.dumps(manifest))

    table = parity.run(Bundle(bundle), QUICK)

    assert _failed(table) == []


def _keep_faults(rebuilt: Rebuilt, patch: pytest.MonkeyPatch, **changes: bool) -> None:
    patch.setattr(rebuilt.guide, "faults", replace(rebuilt.guide.faults, **changes))


def _unclamp(rebuilt: Rebuilt, patch: pytest.MonkeyPatch) -> None:
    _keep_faults(rebuilt, patch, clamp_slice=False)


def _append_visual_tokens(rebuilt: Rebuilt, patch: pytest.MonkeyPatch) -> None:
    _keep_faults(rebuilt, patch, free_visual_tokens=False, clamp_slice=False)


def _allow_prompt_ngrams(rebuilt: Rebuilt, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rebuilt.guide, "no_repeat_ngram", 1)


def _scale_source(rebuilt: Rebuilt, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rebuilt.editor, "source_scale", 0.18215)


def _other_null(rebuilt: Rebuilt, patch: pytest.MonkeyPatch) -> None:
    plain = rebuilt.guide.edit_head.null_condition
    patch.setattr(rebuilt.guide.edit_head, "null_condition", lambda embeddings: plain(embeddings) + 1e-2)


def _drop_more_text(rebuilt: Rebuilt, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rebuilt.module, "objective", replace(rebuilt.module.objective, dropout_text_prob=0.06))


def _weigh_twice(rebuilt: Rebuilt, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rebuilt.module, "objective", replace(rebuilt.module.objective, loss_edit_weight=1.0))


def _shift_slice(rebuilt: Rebuilt, patch: pytest.MonkeyPatch) -> None:
    plain = rebuilt.guide._visual_states
    patch.setattr(rebuilt.guide, "_visual_states", lambda hidden, *rest: plain(hidden.roll(-1, 1), *rest))


def _keep_blanks(rebuilt: Rebuilt, patch: pytest.MonkeyPatch) -> None:
    plain = rebuilt.guide.prompt.encode
    patch.setattr(rebuilt.guide.prompt, "encode", lambda text: plain(f"{text} "))
    rebuilt.__dict__.pop("collated", None)


@pytest.mark.parametrize(
    ("mistake", "part", "failing"),
    [
        (_unclamp, "v5_cut", {("training v5_cut", "[IMG] slice")}),
        (_scale_source, "v2", {("training v2", "UNet input")}),
        (_scale_source, "A_fast", {("edit A_fast", "first UNet input"), ("edit A_fast", "image")}),
        (_append_visual_tokens, "A_fast", {("edit A_fast", "[IMG] slice")}),
        (_allow_prompt_ngrams, "A_fast", {("edit A_fast", "generated ids")}),
        (_other_null, "v1_null", {("training v1_null", "UNet output")}),
        (_drop_more_text, "v3_edge", {("training v3_edge", "UNet output")}),
        (
            _weigh_twice,
            "v0_all",
            {("training v0_all", "loss"), ("gradients v0_all", "gradient norm of every tensor, unet")},
        ),
        (_shift_slice, "v0_all", {("training v0_all", "[IMG] slice"), ("training v0_all", "edit head output")}),
        (_keep_blanks, "text", {("text", "training ids"), ("text", "training labels")}),
    ],
)
def test_a_mistake_is_seen(
    rebuilt: Rebuilt,
    monkeypatch: pytest.MonkeyPatch,
    mistake: Callable[[Rebuilt, pytest.MonkeyPatch], None],
    part: str,
    failing: set[tuple[str, str]],
) -> None:
    table = Table()
    with monkeypatch.context() as patch:
        mistake(rebuilt, patch)
        patch.setattr(Bundle, "training_steps", lambda _: [part])
        patch.setattr(Bundle, "inference_cases", lambda _: [part])
        if part == "text":
            text.check_training_text(rebuilt, table)
        else:
            (training.check_steps if part.startswith("v") else inference.check_cases)(rebuilt, table)
    rebuilt.__dict__.pop("collated", None)

    assert failing <= set(_failed(table))


def test_another_rate_is_seen(rebuilt: Rebuilt, monkeypatch: pytest.MonkeyPatch) -> None:
    make, table = rebuilt.module.make_optimizer, Table()
    monkeypatch.setattr(rebuilt.module, "make_optimizer", lambda parameters: make(parameters, lr=6e-4))

    trainer.check_trainer(rebuilt, table)

    assert ("trainer", "lr logged after step") in _failed(table)


def test_a_check_that_breaks_fails_alone(rebuilt: Rebuilt, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise ZeroDivisionError("of a kind")

    monkeypatch.delenv("MGIE_DEBUG", raising=False)
    monkeypatch.setattr("parity_checks.training.run_step", breaks)
    table = Table()

    training.check_steps(rebuilt, table)
    text.check_training_text(rebuilt, table)

    assert ("training v0_all", "the whole step") in _failed(table)
    assert "ZeroDivisionError: of a kind" in render(table.rows)
    assert table.rows[-1].status == "ok"


def test_numbers_of_a_row() -> None:
    table = Table()
    table.compare("g", "near", torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0001]))
    table.compare("g", "far", 1.0, 1.001)
    table.compare("g", "shape", torch.zeros(2), torch.zeros(3))
    table.compare("g", "nan", float("nan"), float("nan"))
    table.compare("g", "one nan", float("nan"), 1.0)
    table.compare("g", "ours is missing", None, 1.0)
    table.compare("g", "theirs is missing", 1.0, None)

    statuses = [row.status for row in table.rows]
    assert statuses == ["ok", "failed", "failed", "ok", "failed", "failed", "absent"]
    assert "recorded shape (3,), ours (2,)" in render(table.rows)
    assert table.summary() == "2 ok, 4 failed, 1 absent"


def test_relative_difference_of_zeros() -> None:
    assert relative_difference(torch.zeros(2), torch.zeros(2)) == 0.0
    assert relative_difference(torch.ones(1), torch.zeros(1)) == float("inf")
    assert relative_difference(torch.zeros(0), torch.zeros(0)) == 0.0


def test_first_difference() -> None:
    assert first_difference([[1, 2], [3, 4]], [[1, 2], [3, 5]]) == "at 1: at 1: recorded 5, ours 4"
    assert first_difference([1], [1, 2]) == "recorded 2 values, ours 1; they part at the end"
    assert first_difference("a", "b") == "recorded b, ours a"


def test_slice_starts() -> None:
    hidden = torch.arange(12.0).view(2, 6, 1)

    assert slice_starts(hidden, torch.stack([hidden[0, 2:4], hidden[1, 4:6]])) == [2, 4]
    assert slice_starts(hidden, torch.full((2, 2, 1), -1.0)) == [-1, -1]


def test_recipe_is_a_function_of_name_and_seed() -> None:
    drawn = normal("v0_nodrop.noise", (2, 3), seed=20240214)

    assert torch.equal(drawn, normal("v0_nodrop.noise", (2, 3), seed=20240214))
    assert not torch.equal(drawn, normal("v0_nodrop.noise", (2, 3), seed=20240215))
