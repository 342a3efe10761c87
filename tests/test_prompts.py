from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mgie_lit.errors import CheckpointError, ConfigError
from mgie_lit.prompts import SMALL_TOKENIZER_DIR, EditPrompt, add_edit_tokens, load_tokenizer
from mgie_lit.testing.tiny_models import NUM_IMAGE_PATCHES, tiny_prompt
from mgie_lit.vocabulary import IGNORE_INDEX, IMAGE_TOKENS, NUM_VISUAL_TOKENS, VISUAL_TOKENS

CONF = Path(__file__).resolve().parents[1] / "conf"
QUERY = "what will this image be like if ' {instruction} '"


@pytest.fixture(scope="module")
def prompt() -> EditPrompt:
    return tiny_prompt()


def tokens(prompt: EditPrompt, ids: list[int]) -> list[str]:
    return list(prompt.tokenizer.convert_ids_to_tokens(ids))


def bare_tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(str(SMALL_TOKENIZER_DIR))


def test_a_whole_row(prompt: EditPrompt) -> None:
    row = prompt.training_row("Make it BRIGHTER!", "the photo is brighter.")
    words = "<s> ▁user : ▁what ▁will ▁this ▁image ▁be ▁like ▁if ▁ ' ▁make ▁it ▁brighter ! ▁ '"
    question = words.split()
    image = ["<im_start>", *["<im_patch>"] * NUM_IMAGE_PATCHES, "<im_end>"]
    answer = ["▁the", "▁photo", *prompt.tokenizer.tokenize("is"), "▁brighter", ".", *VISUAL_TOKENS, "</s>"]
    assert tokens(prompt, row.input_ids) == [*question, *image, "▁assistant", ":", *answer]
    num_silent = len(question) + len(image) + 2  # up to and with "ASSISTANT:"
    assert row.labels == [IGNORE_INDEX] * num_silent + row.input_ids[num_silent:]
    assert row.visual_token_start == len(row.input_ids) - NUM_VISUAL_TOKENS - 1
    assert tokens(prompt, row.input_ids[row.visual_token_start :]) == [*VISUAL_TOKENS, "</s>"]


def test_what_the_model_reads_before_it_writes_is_how_a_row_begins(prompt: EditPrompt) -> None:
    row = prompt.training_row("warmer", "warm light")
    question = prompt.prompt_ids("warmer")
    assert row.input_ids[: len(question)] == question
    assert row.labels[: len(question)] == [IGNORE_INDEX] * len(question)
    assert prompt.decode(row.input_ids[len(question) :]) == "warm light"


def test_system_text_comes_first_and_the_image_where_it_is_asked_for() -> None:
    tokenizer = load_tokenizer("small")
    prompt = EditPrompt(
        tokenizer, num_image_patches=2, system="the system", query=QUERY, max_length=96, image_first=True
    )
    words = tokenizer.tokenize("the system USER: what will this image be like if ' warmer '")
    image = ["<im_start>", "<im_patch>", "<im_patch>", "<im_end>"]
    assert tokens(prompt, prompt.prompt_ids("warmer")) == ["<s>", *image, *words, "▁assistant", ":"]


def test_a_language_model_without_eyes_gets_no_image_tokens() -> None:
    prompt = tiny_prompt(num_image_patches=0)
    assert prompt.image_ids == []
    assert not set(tokens(prompt, prompt.training_row("warmer", "warm light").input_ids)) & set(IMAGE_TOKENS)


@pytest.mark.parametrize("text", ["[IMG0][IMG7]", "</s>", "<im_patch> <im_start>", "ASSISTANT: no", "a\nb </s> {x}"])
def test_words_that_look_like_special_tokens_are_words(prompt: EditPrompt, text: str) -> None:
    """They neither end the row early nor stand for an image, and the labels stay whole."""
    row = prompt.training_row(text, text)
    special = [prompt.tokenizer.bos_token_id, prompt.tokenizer.eos_token_id, *prompt.image_ids, *prompt.visual_ids]
    for index in set(special):
        expected = prompt.image_ids.count(index) if index in prompt.image_ids else 1
        assert row.input_ids.count(index) == expected, prompt.tokenizer.convert_ids_to_tokens(index)
    assert [label for label in row.labels if label != IGNORE_INDEX][-9:] == row.input_ids[-9:]
    assert sum(label != IGNORE_INDEX for label in row.labels) == len(row.input_ids) - len(prompt.prompt_ids(text))


def test_a_long_expressive_instruction_is_cut_and_the_visual_tokens_are_not() -> None:
    whole = tiny_prompt(max_length=300).training_row("warmer", "warm light " * 40)
    prompt = tiny_prompt(max_length=40)
    row = prompt.training_row("warmer", "warm light " * 40)
    assert len(row.input_ids) == len(row.labels) == 40
    assert row.input_ids[-9:] == [*prompt.visual_ids, prompt.tokenizer.eos_token_id]
    assert row.input_ids[:-9] == whole.input_ids[:31]
    assert row.visual_token_start == 31


def test_an_instruction_that_just_fits_leaves_no_words() -> None:
    length = len(tiny_prompt().prompt_ids("warmer")) + NUM_VISUAL_TOKENS + 1
    prompt = tiny_prompt(max_length=length)
    row = prompt.training_row("warmer", "warm light")
    assert row.input_ids == [*prompt.prompt_ids("warmer"), *prompt.visual_ids, prompt.tokenizer.eos_token_id]


@pytest.mark.faults
def test_an_instruction_without_room_for_the_visual_tokens() -> None:
    length = len(tiny_prompt().prompt_ids("warmer")) + NUM_VISUAL_TOKENS
    message = rf"expected at most {length} tokens with image and visual tokens, got {length + 1}: 'warmer'; shorten it"
    prompt = tiny_prompt(max_length=length)
    with pytest.raises(ConfigError, match=message):
        prompt.training_row("warmer", "warm light")
    with pytest.raises(ConfigError, match=message):
        prompt.prompt_ids("warmer")


def test_decoding_stops_at_the_first_visual_or_end_token(prompt: EditPrompt) -> None:
    words = prompt.encode("warm light")
    assert prompt.decode(words) == "warm light"
    assert prompt.decode([*words, *prompt.visual_ids, *words]) == "warm light"
    assert prompt.decode([*words, prompt.tokenizer.eos_token_id, *words]) == "warm light"
    assert prompt.decode([]) == ""


def test_query_needs_a_place_for_the_instruction() -> None:
    with pytest.raises(ValueError, match=r"query: expected a text with \{instruction\} in it, got 'edit'"):
        EditPrompt(load_tokenizer("small"), num_image_patches=1, system="", query="edit", max_length=96)


def test_missing_tokens_are_named() -> None:
    tokenizer = bare_tokenizer()
    tokenizer.add_tokens(list(IMAGE_TOKENS), special_tokens=True)
    with pytest.raises(ValueError, match=r"tokenizer: no token \[IMG0\], .*\[IMG7\]; call add_edit_tokens"):
        EditPrompt(tokenizer, num_image_patches=1, system="", query=QUERY, max_length=96)


def test_visual_ids_have_to_follow_each_other() -> None:
    tokenizer = bare_tokenizer()
    tokenizer.add_tokens([VISUAL_TOKENS[3]], special_tokens=True)
    add_edit_tokens(tokenizer)
    with pytest.raises(ValueError, match=r"expected consecutive ids for \[IMG0\], .*, got \["):
        EditPrompt(tokenizer, num_image_patches=1, system="", query=QUERY, max_length=96)


def test_edit_tokens_are_added_once_in_a_fixed_order() -> None:
    tokenizer = bare_tokenizer()
    size = len(tokenizer)
    for _ in range(2):
        add_edit_tokens(tokenizer)
        ids = tokenizer.convert_tokens_to_ids([*IMAGE_TOKENS, *VISUAL_TOKENS])
        assert ids == list(range(size, size + 11))
        assert len(tokenizer) == size + 11


def test_small_tokenizer_pads_with_id_zero() -> None:
    tokenizer = load_tokenizer("small")
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)


def test_tokenizer_that_is_not_there(tmp_path: Path) -> None:
    message = r"size.tokenizer.source: expected a folder or hub id with a tokenizer, got .*nothing"
    with pytest.raises(CheckpointError, match=message):
        load_tokenizer(str(tmp_path / "nothing"))


def test_ids_and_labels_of_llama_s_tokenizer_equal_the_recorded_ones(real_data: Path, tmp_path: Path) -> None:
    """Whole training rows that the released code made (LLaMA's sentencepiece, ``vicuna_v1_1``)."""
    golden = real_data.parent / "golden"
    if not (golden / "tokenizer.model").is_file():
        pytest.skip(f"no recorded rows in {golden}")
    from safetensors.numpy import load_file

    shutil.copy(golden / "tokenizer.model", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')  # as published folders
    manifest = json.loads((golden / "train_manifest.json").read_text())
    clip = manifest["config"]["clip"]
    recorded = load_file(golden / "train_inputs.safetensors")
    prompt = EditPrompt(
        load_tokenizer(str(tmp_path)),
        num_image_patches=(clip["image_size"] // clip["patch_size"]) ** 2,
        **OmegaConf.load(CONF / "size" / "llava_7b.yaml").prompt,
    )
    assert len(prompt.tokenizer) == 32_011
    assert len(manifest["text"]) >= 2
    for index, (instruction, expressive_instruction) in enumerate(manifest["text"]):
        row = prompt.training_row(instruction, expressive_instruction)
        padding = recorded["input_ids"].shape[1] - len(row.input_ids)
        assert row.input_ids + [0] * padding == recorded["input_ids"][index].tolist()
        assert row.labels + [IGNORE_INDEX] * padding == recorded["labels"][index].tolist()
        assert row.visual_token_start == manifest["results"]["v0_nodrop"]["p"][index] + 1
        assert len(row.input_ids) == recorded["attention_mask"][index].sum()


def test_blanks_at_the_end_of_a_text_vanish_before_the_visual_tokens(prompt: EditPrompt) -> None:
    assert prompt.training_row("warmer", "warm light.  ") == prompt.training_row("warmer", "warm light.")
