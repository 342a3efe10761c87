"""A bundle of the recording's format that our own code makes, with sizes, texts and settings of its own.

It says nothing about the released code. It shows that ``benchmarks/parity.py`` takes everything from the bundle, and
what it does when files are missing, damaged or wrong.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from parity_checks.bundle import Bundle
from parity_checks.gradients import part_norm
from parity_checks.model import Rebuilt, rebuild
from parity_checks.rebuild import make_config, normal
from parity_checks.rows import Table
from parity_checks.sampler import Sampling, sample
from parity_checks.text import SLOW, tokenised, truncated_batch
from parity_checks.trainer import plain_loop, train
from parity_checks.training import run_step
from parity_checks.watch import listen, watch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from mgie_lit.checkpoints.names.reference import reference_name
from mgie_lit.config.build import build_editor
from mgie_lit.types import Condition

SEED, RESOLUTION, CUT = 77, 64, 95
TEXTS = [
    ["say \"cheese\", it's  2 o'clock", "A naïve café with 12 dogs — and a cat."],
    ["x", "Dark."],
    ["turn the day\tinto night", "The sky would be dark, with stars and a bright moon above the old cottage, really."],
]
CONFIG = {
    "llm": {
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "max_position_embeddings": 512,
    },
    "clip": {
        "hidden_size": 18,
        "intermediate_size": 20,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "image_size": 42,
        "patch_size": 14,
    },
    "unet": [16, 32, 48],
    "unet_down": ["DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "unet_up": ["UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "vae": [8, 8, 16, 16],
    "vae_groups": 4,
    "layers": 1,
    "n": 3,
}
ARGUMENTS = {
    "clip": {"projection_dim": 14, "select_layer": -2, "drop_cls": True},
    "llama": {
        "rms_norm_eps": 1e-5,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "vocab_size": 32011,
        "hidden_act": "silu",
    },
    "unet": {
        "in_channels": 8,
        "out_channels": 4,
        "sample_size": 8,
        "attention_head_dim": 2,
        "cross_attention_dim": 20,
        "norm_num_groups": 8,
        "note": "the rest is in config",
    },
    "vae": {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "scaling_factor": 0.2,
        "sample_size": 64,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "note": "the rest is in config",
    },
    "train_scheduler": {
        "beta_start": 0.001,
        "beta_end": 0.013,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 500,
        "prediction_type": "epsilon",
    },
}
HEAD = {
    "llm2hid.weight": [12, 24],
    "query": [1, 9, 12],
    "hid2feat.weight": [20, 12],
    "mapper.encoder.layers.0.linear1.weight": [30, 12],
    "mapper.encoder.layers.1.linear1.weight": [30, 12],
    "mapper.decoder.layers.0.linear1.weight": [30, 12],
}
STEPS = {
    "v0_all": ([0.5, 0.9, 0.15], [17, 403, 0]),
    "v1_null": ([0.02, 0.07, 0.4], [499, 0, 3]),
    "v2": ([0.12, 0.6, 0.0], [200, 250, 9]),
    "v3_edge": ([0.05, 0.1, 0.2], [1, 498, 4]),
    "v4_edge": ([0.15, 0.0999, 0.3], [333, 466, 5]),
}
EULER = {"cls": "EulerAncestralDiscreteScheduler", "beta_start": 0.001, "beta_end": 0.02, "beta_schedule": "linear"}
CASES: dict[str, dict[str, Any]] = {
    "A_fast": {"image": 0, "instruction": "it's  red", "prompt_style": "fast", "scheduler": EULER},
    "B_slow": {"image": 1, "instruction": "naïve", "prompt_style": "slow", "scheduler": EULER},
    "J_ddim": {
        "image": 1,
        "embeddings": "emb of B_slow, NULL of A_fast",
        "scheduler": {"cls": "DDIMScheduler", "num_train_timesteps": 500, "clip_sample": False, "steps_offset": 1},
    },
}
PICTURES = {0: (33, 47), 1: (64, 40)}  # width and height


class Recorder:
    """Writes the bundle into a folder that holds a tokenizer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.train: dict[str, Any] = {"seed": SEED, "text": TEXTS, "config": CONFIG, "model_args": ARGUMENTS}
        self.infer: dict[str, Any] = {"steps": 3, "guidance": [5.0, 1.25], "cases": {}}
        self.train["weights"] = {f"edit_head.{name}": {"shape": shape} for name, shape in HEAD.items()}
        self.train["weights"]["model.embed_tokens.weight"] = {"shape": [ARGUMENTS["llama"]["vocab_size"]]}
        self.train["results"] = {}

    def record(self) -> Path:
        self._save("train_inputs", {f"jpeg.{i}.{j}": _jpeg(i, j) for i in range(len(TEXTS)) for j in (0, 1)})
        self._write()
        self.train["weights"] = self._weights()
        self._write()
        rebuilt = self._rebuilt()
        rebuilt.config.size.resolution = RESOLUTION
        self._inputs(rebuilt)
        rebuilt = self._rebuilt()
        for name, (prob, ts) in STEPS.items():
            self._step(rebuilt, name, prob, ts)
        self._truncated(rebuilt)
        self._trainings(rebuilt)
        for name, case in CASES.items():
            self._case(rebuilt, name, case)
        null = rebuilt.guide.edit_head.state_dict()
        rebuilt.guide.edit_head.load_state_dict({name: tensor.half().float() for name, tensor in null.items()})
        with torch.no_grad():
            halved = rebuilt.guide.edit_head.null_condition(rebuilt.guide.visual_embeddings.half().float())
        self._save("infer_half", {"NULL_from_half_ckpt_fp32_math": halved})
        self._write()
        return self.folder

    def _rebuilt(self) -> Rebuilt:
        return rebuild(Bundle(self.folder), Table())

    def _weights(self) -> dict[str, Any]:
        editor = build_editor(make_config(Bundle(self.folder)))
        trained = ("embed_tokens", "lm_head", "edit_head", "unet")
        entries = {}
        for own, parameter in editor.named_parameters():
            name, shape = reference_name(own), list(parameter.shape)
            is_gain = "norm" in name.rsplit(".", 2)[-2] and name.endswith("weight")
            rule = [1.0, 0.1] if is_gain else [0.0, 0.05 if len(shape) == 1 else max(0.1, np.prod(shape[1:]) ** -0.5)]
            drawn = normal(name, shape, seed=SEED, std=rule[1], mean=rule[0])
            sha256 = hashlib.sha256(drawn.numpy().tobytes()).hexdigest()
            trains = any(part in name.split(".") for part in trained)
            entries[name] = {"shape": shape, "rule": rule, "sha256": sha256, "trainable": trains}
        return entries

    def _inputs(self, rebuilt: Rebuilt) -> None:
        batch, tensors = rebuilt.collator(rebuilt.examples), rebuilt.bundle.inputs
        assert batch.mllm_pixels is not None
        self._save("tiny_weights", {"lm_head.weight": rebuilt.weights["lm_head.weight"]})
        self._save(
            "train_inputs",
            tensors
            | {"input_ids": batch.input_ids, "labels": batch.labels, "attention_mask": batch.attention_mask.byte()}
            | {"images": batch.mllm_pixels, "p2p_inp_u8": _bytes(batch.source), "p2p_ans_u8": _bytes(batch.target)},
        )

    def _step(self, rebuilt: Rebuilt, name: str, prob: list[float], ts: list[int]) -> None:
        step = run_step(rebuilt, name, {"draw.ts": torch.tensor(ts), "draw.prob": torch.tensor(prob)}, rebuilt.batch)
        seen, losses = step.seen, step.losses
        assert losses.loss_lm is not None
        tensors = step.recorded | {
            "llm_slice": seen.slices[0],
            "unet_in": seen.unet_inputs[0],
            "unet_out": seen.unet_outputs[0],
            "unet_cond_mean_std": torch.cat([f(seen.unet_conditions[0].flatten(1)) for f in (_mean, _std)]),
            "loss": losses.loss[None],
            "loss_ce": losses.loss_lm[None],
            "loss_edit": losses.loss_edit[None],
        }
        entry: dict[str, Any] = {"prob": prob, "ts": ts}
        if name.startswith(("v0", "v1")):
            losses.loss.backward()
            grads = {
                reference_name(own): parameter.grad.clone()
                for own, parameter in rebuilt.editor.named_parameters()
                if parameter.grad is not None
            }
            rebuilt.editor.zero_grad(set_to_none=True)
            norms = {key: float(grad.double().norm()) for key, grad in grads.items()}
            (self.folder / f"train_{name}_gradnorms.json").write_text(json.dumps(norms))
            rows = torch.tensor([1, 5, 32003])
            tensors |= {"grad.rows": rows, "grad.embed_rows": grads["model.embed_tokens.weight"][rows]}
            tensors |= {"grad.unet.conv_in.weight": grads["unet.conv_in.weight"]}
            entry |= {"grad_norm": {"unet": part_norm(grads, "unet")}, "grad_norm_total": part_norm(grads, None)}
        if name.startswith("v0"):
            tensors |= {"vision_sel": seen.vision[0], "img_emb": seen.image_features[0], "hidden": seen.hidden[0]}
            tensors |= {"inputs_embeds": seen.embeddings[0], "logits_lse": step.logits.logsumexp(-1)}
            tensors |= {"logits_head": step.logits[..., :5], "logits_img_cols": step.logits[..., -7:]}
            tensors |= {"logits_argmax": step.logits.argmax(-1), "edit_emb": seen.visual_embeddings[0][None]}
            tensors |= {"hid_edit": seen.conditions[0], "hid_null": seen.conditions[1].repeat(3, 1, 1)}
            tensors |= {"vae_inp_mode": seen.distributions[0].mode(), "vae_ans_mean": seen.distributions[1].mean}
            tensors |= {"vae_ans_std": seen.distributions[1].std}
            p = [int(row.tolist().index(32003)) - 1 for row in rebuilt.batch.labels]
            entry["p"] = [min(start, rebuilt.batch.labels.shape[1] - 9) for start in p]
        self.train["results"][name] = entry
        self._save(f"train_{name}", tensors)

    def _truncated(self, rebuilt: Rebuilt) -> None:
        batch = truncated_batch(rebuilt, CUT)
        draws = {"draw.ts": torch.tensor([3, 4, 5]), "draw.prob": torch.tensor([0.5, 0.6, 0.7])}
        with torch.no_grad():
            step = run_step(rebuilt, "v5_cut", draws, batch)
        assert step.losses.loss_lm is not None
        losses = {"loss": step.losses.loss[None], "loss_ce": step.losses.loss_lm[None]}
        seen = {"llm_slice": step.seen.slices[0], "unet_in": step.seen.unet_inputs[0]}
        seen |= {"unet_out": step.seen.unet_outputs[0], "loss_edit": step.losses.loss_edit[None]}
        conditions = step.seen.unet_conditions[0].flatten(1)
        seen["unet_cond_mean_std"] = torch.cat([_mean(conditions), _std(conditions)])
        self._save("train_v5_cut", {"input_ids": batch.input_ids, "labels": batch.labels} | draws | losses | seen)
        self.train["results"]["v5_cut"] = {"len": CUT}

    def _trainings(self, rebuilt: Rebuilt) -> None:
        choices = [{"ts": [5, 99, 400], "prob": [0.5, 0.01, 0.3]}, {"ts": [7, 9, 40], "prob": [0.12, 0.2, 0.9]}]
        orders = [[0, 1, 2], [2, 0, 1]]
        steps = [choice | {"order": order, "max_norm": 1.0} for choice, order in zip(choices, orders, strict=True)]
        (self.folder / "trainer_run.json").write_text(json.dumps({"steps": steps}))
        rebuilt.config.trainer.max_steps = len(steps)
        log, _ = train(rebuilt, steps)
        names = {"loss": "train/loss", "ce": "train/loss_lm", "edit": "train/loss_edit"}
        names |= {"grad_norm_before_clip": "train/grad_norm", "lr_logged_after_step": "lr"}
        for step, logged in zip(steps, log.steps, strict=True):
            step |= {key: logged[name] for key, name in names.items()}
        groups = [{"n": 1, "tensors": 1, "wd": 0.0, "betas": [0.9, 0.999], "eps": 1e-8}]
        trained = [p for p in rebuilt.editor.parameters() if p.requires_grad]
        groups[0] |= {"n": sum(p.numel() for p in trained), "tensors": len(trained)}
        (self.folder / "trainer_run.json").write_text(json.dumps({"steps": steps, "groups": groups}))
        rebuilt.restore()
        self.train["results"]["traj_clip_0.1"] = plain_loop(rebuilt, choices, 2, 0.1)
        rebuilt.restore()

    def _case(self, rebuilt: Rebuilt, name: str, case: dict[str, Any]) -> None:
        self.infer["cases"][name] = case
        width, height = PICTURES[case["image"]]
        picture = Image.fromarray(_noise(f"picture{case['image']}", height, width), mode="RGB")
        latents = normal(f"{name}.latents", (1, 4, height // 8, width // 8), seed=SEED)
        noise = {f"step_noise.{i}": normal(f"{name}.{i}", latents.shape, seed=SEED) for i in range(3)}
        self._write()
        whole = "instruction" in case
        prefix = "pipe." if whole else ""
        inputs = {f"{prefix}{key}": tensor for key, tensor in ({"latents": latents} | noise).items()}
        inputs[f"{prefix}timesteps"] = torch.zeros(3)
        rebuilt = Rebuilt(Bundle(self.folder), rebuilt.config, rebuilt.editor, rebuilt.weights)
        sampling = Sampling.of(rebuilt, case, inputs, prefix)
        assert sampling is not None
        guide, tensors = rebuilt.guide, dict(inputs)
        written: list[list[int]] = []
        if name == "B_slow":
            tensors["EMB"] = normal("EMB", (1, 8, CONFIG["llm"]["hidden_size"]), seed=SEED)
            guide.edit_head.stored_embeddings = tensors["EMB"][0]
        hearing = listen(guide, "write", written.extend) if whole else self._other_condition(guide)
        with hearing, watch(rebuilt.editor) as seen, tokenised(guide.prompt, case.get("prompt_style", SLOW)):
            sample(rebuilt.editor, sampling, picture, case.get("instruction", ""))
            prompt_ids = guide.prompt.prompt_ids(case["instruction"]) if whole else []
        guide.edit_head.stored_embeddings = None
        image = (seen.decoded[0][0] * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 0)
        out = {f"latents_after.{i}": latents for i, latents in enumerate(sampling.steps)}
        out |= {"unet_in.0": _flip(seen.unet_inputs[0]), "unet_out.0": _flip(seen.unet_outputs[0])}
        out |= {"image_float": image, "image_u8": (image * 255).round().byte(), "timesteps": _timesteps(sampling)}
        tensors |= {f"{prefix}{key}": tensor for key, tensor in out.items()}
        if whole:
            tensors |= {"prompt_ids": torch.tensor(prompt_ids), "sequence": torch.tensor(prompt_ids + written[0])}
            tensors |= {"hid_all": seen.read[0], "hid_slice": seen.slices[0][0], "emb": seen.conditions[0]}
            tensors |= {"NULL": seen.conditions[1], "input_image_u8": torch.from_numpy(np.array(picture))}
        self._save(f"infer_{name}", tensors)

    def _other_condition(self, guide: object) -> Any:  # noqa: ANN401
        text, null = (
            Bundle(self.folder).case_tensors(name)[key] for name, key in (("B_slow", "emb"), ("A_fast", "NULL"))
        )
        return mock.patch.object(guide, "condition", return_value=Condition(text, null, [""]))

    def _save(self, name: str, tensors: dict[str, Tensor]) -> None:
        save_file(
            {key: tensor.detach().clone().contiguous() for key, tensor in tensors.items()},
            self.folder / f"{name}.safetensors",
        )

    def _write(self) -> None:
        (self.folder / "train_manifest.json").write_text(json.dumps(self.train))
        (self.folder / "infer_manifest.json").write_text(json.dumps(self.infer))


def _noise(name: str, height: int, width: int) -> np.ndarray:
    return np.random.RandomState(len(name)).randint(0, 256, (height, width, 3), dtype=np.uint8)


def _jpeg(sample: int, which: int) -> Tensor:
    file = io.BytesIO()
    Image.fromarray(_noise("x" * (sample + which), 71 + 8 * sample, 90)).save(file, "JPEG")
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def _bytes(signed: Tensor) -> Tensor:
    return ((signed + 1) * 127.5).round().byte()


def _mean(rows: Tensor) -> Tensor:
    return rows.mean(1)


def _std(rows: Tensor) -> Tensor:
    return rows.std(1)


def _flip(branches: Tensor) -> Tensor:
    return branches.flip(0)


def _timesteps(sampling: Sampling) -> Tensor:
    sampling.scheduler.set_timesteps(3, device=torch.device("cpu"))
    return sampling.scheduler.timesteps.double()
