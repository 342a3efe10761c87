"""Tiny models that are asked: what they read, and that padding, sampling defaults and odd texts do no harm."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mgie_lit.errors import CheckpointError, ConfigError
from mgie_lit.prepare.expressive.derivers import Answer, ImageTextDeriver, TextDeriver

from .conftest import CPU, QUESTION, save_tokenizer

TEMPLATE = (
    "<s>{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
IMAGE_TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}|{{ part['text'] }}|{% endif %}{% endfor %}{% endfor %}"
)
RED, NOISE = Image.new("RGB", (40, 30), "red"), Image.effect_noise((30, 50), 90).convert("RGB")


def text_deriver(folder: Path, **changes: Any) -> TextDeriver:  # noqa: ANN401
    settings: dict[str, Any] = {"question": QUESTION, "max_new_tokens": 6}
    deriver = TextDeriver(str(folder), **settings | changes)
    deriver.load(CPU)
    return deriver


def image_deriver(folder: Path, **changes: Any) -> ImageTextDeriver:  # noqa: ANN401
    settings: dict[str, Any] = {"question": QUESTION, "max_new_tokens": 6}
    deriver = ImageTextDeriver(str(folder), **settings | changes)
    deriver.load(CPU)
    return deriver


class TestText:
    def test_answers_do_not_depend_on_their_neighbours(self, llama_dir: Path) -> None:
        deriver = text_deriver(llama_dir)
        texts = ["red", "a much longer instruction about the sky and the sea", "snow, please"]
        together = deriver.answer(texts, [])
        assert together == [deriver.answer([text], [])[0] for text in texts]
        assert together == deriver.answer(texts, [])
        assert len({answer.text for answer in together}) == 3
        assert not any(answer.is_finished for answer in together)

    def test_answer_without_the_prompt(self, llama_dir: Path) -> None:
        short, long = (text_deriver(llama_dir, max_new_tokens=count).answer(["red"], [])[0].text for count in (2, 8))
        assert long.startswith(short)
        assert "ASSISTANT" not in long

    def test_end_token_ends_an_answer(self, silent_dir: Path) -> None:
        deriver = text_deriver(silent_dir)
        assert deriver.answer(["red", "a blue sky over the sea"], []) == [Answer("", is_finished=True)] * 2

    @pytest.mark.parametrize("text", ["", " ", "\0", "\ud800", "{question} {instruction} {0}", "赤い空", "x" * 4000])
    def test_odd_instructions(self, llama_dir: Path, text: str) -> None:
        deriver = text_deriver(llama_dir, max_new_tokens=1, max_instruction_length=200)
        assert isinstance(deriver.answer([text, "red"], [])[0], Answer)

    def test_plain_prompt(self, llama_dir: Path) -> None:
        prompt = text_deriver(llama_dir).prompt("it's </s>{question}<s> red")
        assert prompt == "USER: what will this image be like if 'it's  {question}  red' ASSISTANT:"

    def test_conversation(self, llama_dir: Path) -> None:
        deriver = text_deriver(
            llama_dir, question="{instruction}?", conversation="Q {question} A", max_instruction_length=4
        )
        assert deriver.prompt("redder") == "Q redd? A"

    @pytest.mark.parametrize(
        ("system", "prompt"),
        [(None, "<s>[user] red? [assistant]"), ("Be brief.", "<s>[system] Be brief. [user] red? [assistant]")],
    )
    def test_chat_template(self, llama_dir: Path, tmp_path: Path, system: str | None, prompt: str) -> None:
        folder = Path(shutil.copytree(llama_dir, tmp_path / "chat"))
        save_tokenizer(folder, template=TEMPLATE)
        deriver = text_deriver(folder, question="{instruction}?", system=system)
        assert deriver.prompt("red") == prompt
        ids = deriver._encode([prompt], [])["input_ids"][0].tolist()
        assert ids.count(1) == 1, "the template has written the beginning token"

    def test_settings_are_what_answers_depend_on(self, llama_dir: Path) -> None:
        settings = TextDeriver(str(llama_dir), question=QUESTION).settings(CPU)
        assert settings["kind"] == "TextDeriver"
        assert settings["question"] == QUESTION
        assert settings["dtype"] == "float32"
        assert TextDeriver(str(llama_dir), question=QUESTION).settings(torch.device("cuda"))["dtype"] == "bfloat16"

    def test_bfloat16(self, llama_dir: Path) -> None:
        assert len(text_deriver(llama_dir, dtype="bfloat16").answer(["red", "more of it"], [])) == 2

    def test_folder_without_tokenizer(self, llama_dir: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(llama_dir, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*")))
        with pytest.raises(CheckpointError, match=r"expressive\.deriver\.model: expected the tokenizer of an LLM"):
            text_deriver(folder)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"question": "what?"}, r"deriver\.question: expected a text with {instruction} in it once, got 'what\?'"),
            ({"conversation": "USER:"}, r"deriver\.conversation: expected a text with {question} in it once"),
            ({"max_new_tokens": 0}, r"deriver\.max_new_tokens: expected at least 1, got 0"),
            ({"max_instruction_length": 0}, r"deriver\.max_instruction_length: expected at least 1, got 0"),
            ({"conversation": "{question}", "system": "x"}, r"deriver\.system: expected null beside a conversation"),
        ],
    )
    def test_settings_that_make_no_sense(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            TextDeriver("folder", **{"question": QUESTION} | changes)


class TestImageText:
    def test_the_image_is_seen(self, llava_dir: Path) -> None:
        deriver = image_deriver(llava_dir)
        red, noise = deriver.answer(["make it blue"] * 2, [RED, NOISE])
        assert red != noise

    def test_answers_do_not_depend_on_their_neighbours(self, llava_dir: Path) -> None:
        deriver = image_deriver(llava_dir)
        texts, images = ["red", "a much longer instruction about the sky"], [NOISE, RED]
        together = deriver.answer(texts, images)
        assert together == [deriver.answer([text], [image])[0] for text, image in zip(texts, images, strict=True)]

    def test_image_token_in_the_instruction(self, llava_dir: Path) -> None:
        deriver = image_deriver(llava_dir)
        assert deriver.prompt("two <image> tokens").count("<image>") == 1
        assert len(deriver.answer(["two <image> tokens"], [RED])) == 1

    def test_prompts(self, llava_dir: Path, tmp_path: Path) -> None:
        assert image_deriver(llava_dir).prompt("red") == (
            "USER: <image>\nwhat will this image be like if 'red' ASSISTANT:"
        )
        after = image_deriver(
            llava_dir, conversation="A chat. USER: {question}\n{image} ASSISTANT:", question="{instruction}"
        )
        assert after.prompt("red") == "A chat. USER: red\n<image> ASSISTANT:"
        folder = Path(shutil.copytree(llava_dir, tmp_path / "chat"))
        (folder / "chat_template.jinja").write_text(IMAGE_TEMPLATE)
        templated = image_deriver(folder, question="{instruction}")
        assert templated.prompt("red") == "<image>|red|"
        assert len(templated.answer(["red"], [RED])) == 1

    def test_bfloat16(self, llava_dir: Path) -> None:
        assert len(image_deriver(llava_dir, dtype="bfloat16").answer(["red"], [RED])) == 1

    def test_conversation_without_the_image(self) -> None:
        with pytest.raises(ConfigError, match=r"deriver\.conversation: expected a text with {image} in it once"):
            ImageTextDeriver("folder", question=QUESTION, conversation="{question}")

    def test_folder_without_processor(self, llava_dir: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(llava_dir, tmp_path / "bare", ignore=shutil.ignore_patterns("*processor*")))
        with pytest.raises(
            CheckpointError, match=r"expressive\.deriver\.model: expected .*processor.* download the folder"
        ):
            image_deriver(folder)
