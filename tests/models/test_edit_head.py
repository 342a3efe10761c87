from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mgie_lit.models.edit_head import EditHead
from mgie_lit.testing.tiny_models import CONDITION_DIM, LLM_DIM, NUM_QUERIES, tiny_edit_head

NUM_TOKENS = 8


@pytest.fixture
def head() -> EditHead:
    return tiny_edit_head().eval()


def test_shape(head: EditHead) -> None:
    condition = head(torch.randn(3, NUM_TOKENS, LLM_DIM), torch.randn(NUM_TOKENS, LLM_DIM))
    assert condition.shape == (3, NUM_QUERIES, CONDITION_DIM)


def test_states_and_embeddings_are_added(head: EditHead) -> None:
    states, embeddings = torch.randn(3, NUM_TOKENS, LLM_DIM), torch.randn(NUM_TOKENS, LLM_DIM)
    condition = head(states, embeddings)
    assert torch.allclose(condition, head(states + embeddings, torch.zeros_like(embeddings)), atol=1e-6)
    assert torch.allclose(condition, head(states, embeddings.expand(3, -1, -1)), atol=1e-6)
    assert not torch.allclose(condition, head(states, torch.zeros_like(embeddings)), atol=1e-3)


def test_null_condition_is_the_answer_to_states_of_zero(head: EditHead) -> None:
    embeddings = torch.randn(NUM_TOKENS, LLM_DIM)
    null = head.null_condition(embeddings)
    assert null.shape == (1, NUM_QUERIES, CONDITION_DIM)
    assert torch.allclose(null, head(torch.zeros(2, NUM_TOKENS, LLM_DIM), embeddings)[1:], atol=1e-6)
    assert null.abs().max() > 0.01


def test_null_condition_passes_gradient_to_the_embeddings(head: EditHead) -> None:
    embeddings = torch.randn(NUM_TOKENS, LLM_DIM, requires_grad=True)
    head.null_condition(embeddings).square().sum().backward()
    assert embeddings.grad is not None
    assert (embeddings.grad.abs().sum(dim=1) > 0).all()


def test_every_query_gives_its_own_vector(head: EditHead) -> None:
    states, embeddings = torch.randn(1, NUM_TOKENS, LLM_DIM), torch.randn(NUM_TOKENS, LLM_DIM)
    condition = head(states, embeddings)
    assert torch.unique(condition[0], dim=0).shape[0] == NUM_QUERIES
    order = torch.randperm(NUM_QUERIES)
    head.query.data = head.query.data[:, order]
    assert torch.allclose(head(states, embeddings), condition[:, order], atol=1e-5)


def test_rows_of_a_batch_do_not_mix_and_there_is_no_dropout(head: EditHead) -> None:
    states, embeddings = torch.randn(3, NUM_TOKENS, LLM_DIM), torch.randn(NUM_TOKENS, LLM_DIM)
    condition = head.train()(states, embeddings)
    for row in range(3):
        assert torch.allclose(head.eval()(states[row : row + 1], embeddings)[0], condition[row], atol=1e-5)


def test_saved_and_loaded_it_gives_the_same(head: EditHead, tmp_path: Path) -> None:
    head.save_pretrained(tmp_path)
    loaded = EditHead.from_pretrained(tmp_path)
    states, embeddings = torch.randn(2, NUM_TOKENS, LLM_DIM), torch.randn(NUM_TOKENS, LLM_DIM)
    assert torch.equal(loaded(states, embeddings), head(states, embeddings))
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}


def test_names_of_the_parts(head: EditHead) -> None:
    """Those of the released checkpoints."""
    assert {name.split(".")[0] for name, _ in head.named_parameters()} == {"llm2hid", "query", "mapper", "hid2feat"}


def test_stored_embeddings_are_saved_with_the_weights(tmp_path: Path) -> None:
    head = EditHead(7, 12, 5, 3, 2, 1, 1, 11, num_stored_embeddings=4)
    assert "stored_embeddings" not in dict(head.named_parameters()), "they do not train"
    head.stored_embeddings = torch.randn(4, 7)
    head.save_pretrained(tmp_path)
    loaded = EditHead.from_pretrained(tmp_path)
    assert torch.equal(loaded.stored_embeddings, head.stored_embeddings)
