"""The chunked loss equals the plain one, in value and in gradients."""

import pytest
import torch

from tunesmith.training import losses


@pytest.mark.parametrize("bias", [False, True], ids=["no-bias", "bias"])
@pytest.mark.parametrize("frozen", [False, True], ids=["trained-head", "frozen-head"])
@pytest.mark.parametrize("chunk_bytes", [1, 4 * 50 * 3, 2**20])
def test_chunks_give_the_plain_loss_and_gradients(monkeypatch, bias, frozen, chunk_bytes):
    monkeypatch.setattr(losses, "_CHUNK_BYTES", chunk_bytes)
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 50, bias=bias).double()
    head.requires_grad_(not frozen)
    hidden = torch.randn(7, 8, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 50, (7,))
    results = []
    for sums in (
        losses.loss_from_hidden(hidden, head, targets, torch.float64),
        losses.loss_from_logits(head(hidden), targets),
    ):
        wanted = [hidden, *(parameter for parameter in head.parameters() if parameter.requires_grad)]
        gradients = torch.autograd.grad(sums.loss / 7, wanted)
        results.append((sums.loss, sums.correct, *gradients))
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours.float(), plain.float(), rtol=1e-5, atol=1e-6)


def test_no_gradient_is_computed_where_none_is_wanted():
    head = torch.nn.Linear(8, 50)
    with torch.no_grad():
        sums = losses.loss_from_hidden(torch.randn(3, 8), head, torch.tensor([1, 2, 3]), torch.float32)
    assert not sums.loss.requires_grad


@pytest.mark.parametrize("bias", [False, True], ids=["no-bias", "bias"])
@pytest.mark.parametrize("frozen", [False, True], ids=["trained-head", "frozen-head"])
@pytest.mark.parametrize("chunk_bytes", [1, 4 * 50 * 3, 2**20])
def test_chunks_give_the_plain_log_probabilities_and_gradients(monkeypatch, bias, frozen, chunk_bytes):
    monkeypatch.setattr(losses, "_CHUNK_BYTES", chunk_bytes)
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 50, bias=bias)
    head.requires_grad_(not frozen)
    hidden = torch.randn(7, 8, requires_grad=True)
    targets, weights = torch.randint(0, 50, (7,)), torch.randn(7)
    results = []
    for found in (
        losses.log_probs_from_hidden(hidden, head, targets, torch.float32),
        losses.log_probs_from_logits(head(hidden), targets),
    ):
        wanted = [hidden, *(parameter for parameter in head.parameters() if parameter.requires_grad)]
        results.append((found, *torch.autograd.grad((found * weights).sum(), wanted)))
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
