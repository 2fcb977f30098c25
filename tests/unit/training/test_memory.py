"""The arithmetic of memory."""

from dataclasses import replace

import pytest

from tunesmith.training.memory import CPU_TOKENS, GPU_TOKENS, Footprint, Head, choose, quantized

GB = 10**9

FOOTPRINT = Footprint(
    weights=2 * GB,
    parameters=GB,
    trained=10**7,
    moment_bytes=8.0,
    per_token=10**6,
    per_pass=0.0,
    layers=20,
    width=2_000,
    number_bytes=2,
    residual_bytes=2,
    head=Head(vocabulary=50_000, width=2_000, trained=False, whole=False),
    on_gpu=True,
    can_recompute=True,
    largest_matrix=0,
    pictures=0.0,
)


def peak(footprint=FOOTPRINT, tokens=4_096, recompute=False):
    return footprint.peak(surely=tokens, at_most=tokens, recompute=recompute)


def passes(memory, footprint=FOOTPRINT, longest=500, recompute=None, sequences=None):
    return choose(footprint, memory=memory, longest=longest, recompute=recompute, sequences=sequences)


def test_the_high_end_is_the_sum_of_its_parts_and_above_the_low_end():
    for tokens in (1, 64, 4_096, 10**6):
        planned = peak(tokens=tokens)
        assert planned.high == sum(planned.parts.model_dump().values())
        assert 0 < planned.low < planned.high


@pytest.mark.parametrize(
    "larger",
    [
        {"weights": 3 * GB},
        {"trained": 10**9},
        {"moment_bytes": 16.0},
        {"per_token": 2 * 10**6},
        {"per_pass": GB},
        {"largest_matrix": GB},
        {"head": Head(vocabulary=50_000, width=2_000, trained=False, whole=True)},
        {"head": Head(vocabulary=50_000, width=2_000, trained=True, whole=False)},
    ],
    ids=lambda larger: next(iter(larger)),
)
def test_more_of_anything_never_takes_less(larger):
    less, more = peak(), peak(replace(FOOTPRINT, **larger))
    assert more.low >= less.low
    assert more.high > less.high


@pytest.mark.parametrize("recompute", [False, True])
def test_more_tokens_take_more(recompute):
    peaks = [peak(tokens=tokens, recompute=recompute) for tokens in (1, 2, 1_000, 10_000, 1_000_000)]
    assert [each.high for each in peaks] == sorted({each.high for each in peaks})
    assert [each.low for each in peaks] == sorted(each.low for each in peaks)


def test_computing_activations_again_takes_less():
    assert peak(recompute=True).high < peak().high


def test_fewer_bits_take_less_and_their_scales_count():
    plain = replace(FOOTPRINT, weights=2 * GB)
    four, scaled, eight = (
        quantized(plain, GB, bits, double).weights for bits, double in ((4, True), (4, False), (8, True))
    )
    assert GB // 2 < four < scaled < eight == GB


def test_a_large_gpu_gets_the_largest_passes_and_keeps_activations():
    assert passes(100 * GB).token_budget == GPU_TOKENS
    assert passes(100 * GB).recompute is False


def test_a_processor_keeps_its_passes_unless_memory_is_short():
    on_cpu = replace(FOOTPRINT, on_gpu=False)
    assert passes(100 * GB, on_cpu).token_budget == CPU_TOKENS
    assert passes(8 * GB, on_cpu).token_budget < CPU_TOKENS


def test_less_memory_makes_passes_smaller_and_then_computes_activations_again():
    chosen = [passes(memory * GB) for memory in (100, 20, 10, 7, 6, 5, 4)]
    assert [each.recompute for each in chosen] == sorted(each.recompute for each in chosen)
    kept = [each.token_budget for each in chosen if not each.recompute]
    assert kept == sorted(kept, reverse=True)
    assert chosen[-1].recompute


@pytest.mark.parametrize("memory", range(4, 60, 3))
@pytest.mark.parametrize("longest", [1, 500, 3_000, 20_000])
def test_what_is_chosen_fits_wherever_anything_does(memory, longest):
    chosen = passes(memory * GB, longest=longest)
    needed = peak(tokens=max(chosen.token_budget, longest), recompute=chosen.recompute).high
    least = peak(tokens=max(512, longest), recompute=True).high
    assert needed <= memory * GB or least > memory * GB


@pytest.mark.parametrize("asked", [False, True])
def test_what_was_asked_for_is_not_changed(asked):
    assert passes(GB, recompute=asked).recompute is asked
    assert passes(100 * GB, recompute=asked).recompute is asked


def test_a_model_that_cannot_compute_activations_again_is_not_asked_to():
    assert passes(GB, replace(FOOTPRINT, can_recompute=False)).recompute is False
