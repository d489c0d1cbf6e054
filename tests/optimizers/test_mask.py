"""The stateless generator: pinned bits, and statistics that a bad mixer fails."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from sgabench.optimizers import mask

WORD = 2**32 - 1
LONG = 2**64 - 1
SAMPLE = 1 << 20
# Every statistical test is deterministic; under a perfect generator it had this chance to fail.
UNLIKELY = 1e-5


def mask_bits_reference(seed: int, step: int, position: int) -> int:
    """The algorithm of the module's docstring, in Python integers, as unsigned 32 bits."""

    def mix64(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & LONG
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & LONG
        return z ^ (z >> 31)

    golden = 0x9E3779B97F4A7C15
    key = mix64((mix64((seed + golden) & LONG) + step * golden) & LONG)
    x = (position * 0x9E3779B9 + (key & WORD)) & WORD
    x ^= x >> 16
    x = (x * 0xED5AD4BB + (key >> 32)) & WORD
    x ^= x >> 11
    x = (x * 0xAC4C1B51) & WORD
    x ^= x >> 15
    return (x * 0x31848BAB) & WORD


def unsigned(seed: int, step: int, start: int, count: int) -> np.ndarray:
    return mask.random_bits(seed, step, start, count).numpy().view(np.uint32)


def byte_pairs_p_value(first: np.ndarray, second: np.ndarray) -> float:
    """Chi-square test of the independence of two byte sequences (and of their uniformity)."""
    counts = np.bincount(first.astype(np.int64) * 256 + second, minlength=65536)
    return float(stats.chisquare(counts).pvalue)


def plausible(p_value: float) -> bool:
    """Neither too irregular nor too regular for chance."""
    return UNLIKELY < p_value < 1 - UNLIKELY


def test_golden_values() -> None:
    assert unsigned(0, 1, 0, 4).tolist() == [3442785608, 1250268119, 2511269953, 2447900849]
    assert unsigned(2**63 - 1, 12345, 2**32 - 2, 4).tolist() == [1091209453, 2457789125, 1610352864, 3355999199]


@pytest.mark.parametrize(
    ("seed", "step", "start"),
    [(0, 0, 0), (1, 1, 0), (2**63 - 1, 7, 123_456), (-5, 2**40, 2**31 - 30), (3, 9, 2**32 - 30)],
)
def test_bits_equal_the_reference_in_python_integers(seed: int, step: int, start: int) -> None:
    expected = [mask_bits_reference(seed, step, start + i) for i in range(60)]
    assert unsigned(seed, step, start, 60).tolist() == expected


def test_bits_do_not_depend_on_where_a_draw_starts_or_ends() -> None:
    whole = mask.random_bits(5, 3, 0, 200_000)
    assert torch.equal(mask.random_bits(5, 3, 70_001, 100_003), whole[70_001:170_004])
    assert torch.equal(mask.bernoulli(5, 3, 70_001, 9, 0.3), mask.bernoulli(5, 3, 0, 200_000, 0.3)[70_001:70_010])
    assert mask.random_bits(5, 3, 10, 0).numel() == 0


def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = mask.random_bits(1, 1, 0, 300_000)
        torch.set_num_threads(2)
        assert torch.equal(mask.random_bits(1, 1, 0, 300_000), one)
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_bits_and_masks_are_the_same_on_the_gpu() -> None:
    for start, count in ((0, 1), (77, 100_001), (2**31 - 5, 1000), (0, (1 << 23) + 5)):
        assert torch.equal(mask.random_bits(9, 4, start, count, "cuda").cpu(), mask.random_bits(9, 4, start, count))
        on_gpu = mask.bernoulli(9, 4, start, count, 0.8, "cuda").cpu()
        assert torch.equal(on_gpu, mask.bernoulli(9, 4, start, count, 0.8))
    torch.testing.assert_close(mask.normal(9, 4, 0, 10_000, "cuda").cpu(), mask.normal(9, 4, 0, 10_000))


@pytest.mark.parametrize("shift", [0, 8, 16, 24])
def test_every_byte_is_uniform(shift: int) -> None:
    for seed, step in ((0, 1), (1, 1), (123456789, 1000)):
        counts = np.bincount((unsigned(seed, step, 0, SAMPLE) >> shift) & 255, minlength=256)
        assert plausible(stats.chisquare(counts).pvalue)


@pytest.mark.parametrize("shift", [0, 12, 24])
@pytest.mark.parametrize("lag", [1, 2, 9, 64, 576, 65536])
def test_neighbouring_elements_are_independent(lag: int, shift: int) -> None:
    byte = (unsigned(11, 5, 0, SAMPLE + lag) >> shift) & 255
    assert plausible(byte_pairs_p_value(byte[:-lag], byte[lag:]))


def test_consecutive_steps_are_independent() -> None:
    for step in (0, 1, 255, 1000):
        now, then = unsigned(3, step, 0, SAMPLE), unsigned(3, step + 1, 0, SAMPLE)
        assert plausible(byte_pairs_p_value(now >> 24, then >> 24))


def test_seeds_are_independent() -> None:
    for one, other in ((0, 1), (1, 2), (7, 7 + 2**32), (0, 2**62)):
        assert plausible(byte_pairs_p_value(unsigned(one, 1, 0, SAMPLE) >> 24, unsigned(other, 1, 0, SAMPLE) >> 24))


def test_a_seed_and_a_step_cannot_be_exchanged() -> None:
    assert mask.key(1, 2) != mask.key(2, 1)
    assert len({mask.key(seed, step) for seed in range(50) for step in range(50)}) == 2500


def test_steps_whose_counters_overlap_do_not_replay_each_other() -> None:
    """Among many steps some pair begins at nearly the same counter: the rest of the key must part them."""
    inverse = pow(0x9E3779B9, -1, 2**32)
    begins = np.array([mask.key(4, step)[0] * inverse & WORD for step in range(20_000)])
    order = np.argsort(begins)
    nearest = int(np.diff(begins[order]).argmin())
    early, late = int(order[nearest]), int(order[nearest + 1])
    distance = int(begins[late] - begins[early])
    assert distance < 1000
    one, other = unsigned(4, early, distance, SAMPLE), unsigned(4, late, 0, SAMPLE)
    assert plausible(byte_pairs_p_value(one >> 24, other >> 24))


@pytest.mark.parametrize("rate", [0.01, 0.5, 0.8, 0.999])
def test_frequency_of_ones(rate: float) -> None:
    for step in (1, 2, 3):
        kept = int(mask.bernoulli(17, step, 0, SAMPLE, rate).sum())
        assert plausible(stats.binom.cdf(kept, SAMPLE, rate))


def test_every_element_is_kept_equally_often_over_the_steps() -> None:
    steps, elements, rate = 1500, 4096, 0.8
    kept = torch.stack([mask.bernoulli(2, step, 0, elements, rate) for step in range(steps)])
    of_element = kept.sum(0).numpy()
    variance = steps * rate * (1 - rate)
    assert plausible(stats.chi2.cdf(((of_element - steps * rate) ** 2 / variance).sum(), elements))
    of_step = kept.sum(1).numpy()
    variance = elements * rate * (1 - rate)
    assert plausible(stats.chi2.cdf(((of_step - elements * rate) ** 2 / variance).sum(), steps))


def test_masks_of_any_two_elements_are_uncorrelated_over_the_steps() -> None:
    steps, elements, rate = 2000, 512, 0.8
    kept = torch.stack([mask.bernoulli(8, step, 0, elements, rate) for step in range(steps)]).double()
    standard = (kept - rate) / math.sqrt(rate * (1 - rate))
    correlation = (standard.T @ standard / math.sqrt(steps))[*torch.triu_indices(elements, elements, 1)]
    assert abs(float(correlation.mean())) < 5 / math.sqrt(len(correlation))
    assert float(correlation.std()) == pytest.approx(1, abs=0.02)
    assert float(correlation.abs().max()) < stats.norm.isf(UNLIKELY / 2 / len(correlation))


def test_runs_have_the_right_lengths() -> None:
    rate = 0.8
    kept = mask.bernoulli(6, 1, 0, SAMPLE, rate).numpy()
    ends = np.flatnonzero(np.diff(kept)) + 1
    lengths = np.diff(ends)[int(kept[0]) :: 2]  # of ones: they begin where the mask rises
    assert kept[ends[int(kept[0])]] == 1
    longest = 30
    observed = np.bincount(np.minimum(lengths, longest), minlength=longest + 1)[1:]
    expected = np.array([rate ** (n - 1) * (1 - rate) for n in range(1, longest)] + [rate ** (longest - 1)])
    assert plausible(stats.chisquare(observed, expected * observed.sum()).pvalue)


def test_rate_one_keeps_everything() -> None:
    assert bool((mask.bernoulli(0, 1, 0, SAMPLE, 1.0) == 1).all())


def test_a_higher_rate_keeps_what_a_lower_one_keeps() -> None:
    low, high = mask.bernoulli(0, 1, 0, 1000, 0.5), mask.bernoulli(0, 1, 0, 1000, 0.6)
    assert bool((high >= low).all())
    assert low.sum() < high.sum()


def test_bernoulli_compares_the_bits_with_the_documented_threshold() -> None:
    bits = mask.random_bits(0, 1, 0, 1000).tolist()
    expected = [float(b < round(0.3 * 2**32) - 2**31) for b in bits]
    assert mask.bernoulli(0, 1, 0, 1000, 0.3).tolist() == expected


def test_normals_are_normal() -> None:
    drawn = mask.normal(21, 1, 0, SAMPLE)
    assert drawn.dtype == torch.float32
    assert bool(drawn.isfinite().all())
    assert plausible(stats.kstest(drawn.double().numpy(), "norm").pvalue)
    later = mask.normal(21, 2, 0, SAMPLE)
    assert abs(float((drawn * later).mean())) < 5 / math.sqrt(SAMPLE)
    assert abs(float((drawn[1:] * drawn[:-1]).mean())) < 5 / math.sqrt(SAMPLE)


def test_normals_follow_the_documented_formula() -> None:
    bits = mask.random_bits(1, 1, 0, 1000).double()
    expected = math.sqrt(2) * torch.erfinv(((bits / 256).floor() + 0.5) / 2**23)
    torch.testing.assert_close(mask.normal(1, 1, 0, 1000).double(), expected, rtol=1e-5, atol=1e-6)
