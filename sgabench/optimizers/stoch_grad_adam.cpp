// StochGradAdam's step over many parameters in one pass through memory: the mask is computed where it is used.
//
// The arithmetic is that of the single-tensor implementation, operation by operation in float32. Compiled without
// contraction (a * b + c in one rounding), it gives the same bits on every processor and with any number of threads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

// Eleven and fourteen words of 64 bits, which compiled.py fills in.
struct Item {
    float *parameter;
    const float *gradient;
    float *moment;
    float *second;
    float *step;         // how many steps this parameter has taken; advanced here
    int64_t size;
    int64_t position;    // of the first element, in the counter of the mask
    int64_t channels;    // 1: row-major in memory; otherwise channels last,
    int64_t pixels;      // ... with so many elements per channel
    int64_t sampled;
    double reserved;     // lr / (1 - beta1^step) and sqrt(1 - beta2^step), as floats, while a step runs
};

struct Options {
    double lr, beta1, beta2, eps, decay, divisor;  // divisor: of what the mask keeps
    int64_t key_low, key_high, below;           // of the mask
    int64_t decoupled, mask_decay, bias_correction, maximize;
    int64_t threads;
};

constexpr int64_t kTile = 1024;  // positions of a tile stay in the first-level cache
constexpr int64_t kGrain = 1 << 15;  // fewer elements are not worth another thread

struct Scalars {
    float step_size, root;
};

inline uint32_t bits(uint32_t position, uint32_t low, uint32_t high) {
    uint32_t x = position * 0x9E3779B9u + low;
    x ^= x >> 16;
    x = x * 0xED5AD4BBu + high;
    x ^= x >> 11;
    x *= 0xAC4C1B51u;
    x ^= x >> 15;
    return x * 0x31848BABu;
}

enum Decay { kNone, kMasked, kUnmasked };

template <bool sampled, Decay coupled, bool linear>
void update(const Item &item, const Options &options, Scalars scalars, int64_t begin, int64_t count,
            const uint32_t *positions) {
    float *__restrict parameter = item.parameter + begin;
    const float *__restrict gradient = item.gradient + begin;
    float *__restrict moment = item.moment + begin;
    float *__restrict second = item.second + begin;
    const uint32_t low = options.key_low, high = options.key_high;
    const uint32_t start = uint32_t(item.position + begin);
    const int32_t below = options.below;
    const float kept = 1 / float(options.divisor), decay = options.decay, eps = options.eps;
    const float shrink = options.decoupled ? 1 - options.lr * options.decay : 1;
    const float sign = options.maximize ? -1 : 1;
    const float weight1 = 1 - options.beta1, weight2 = 1 - options.beta2, beta2 = options.beta2;
    const float other1 = 1 - weight1;
    const bool near = weight1 < 0.5f;  // torch.lerp is exact at the end that is nearer
    const float step_size = scalars.step_size, root = scalars.root;
#pragma GCC ivdep
    for (int64_t i = 0; i < count; ++i) {
        const float value = parameter[i] * shrink;
        float phi = gradient[i] * sign;
        if (coupled == kMasked) phi += decay * value;
        if (sampled) {
            const uint32_t position = linear ? start + uint32_t(i) : positions[i];
            phi *= int32_t(bits(position, low, high)) < below ? kept : 0.0f;
        }
        if (coupled == kUnmasked) phi += decay * value;
        const float far = phi - moment[i];
        const float m = near ? moment[i] + weight1 * far : phi - far * other1;
        const float v = second[i] * beta2 + weight2 * phi * phi;
        moment[i] = m;
        second[i] = v;
        parameter[i] = value - step_size * m / (std::sqrt(v) / root + eps);
    }
}

using Update = void (*)(const Item &, const Options &, Scalars, int64_t, int64_t, const uint32_t *);

template <bool sampled, Decay coupled>
void part(const Item &item, const Options &options, Scalars scalars, int64_t begin, int64_t end) {
    if (!sampled || item.channels == 1) {
        update<sampled, coupled, true>(item, options, scalars, begin, end - begin, nullptr);
        return;
    }
    uint32_t positions[kTile];
    const uint32_t channels = item.channels, pixels = item.pixels;
    for (int64_t tile = begin; tile < end; tile += kTile) {
        const int64_t count = std::min(kTile, end - tile);
        uint32_t channel = tile % channels;
        uint32_t pixel = tile / channels % pixels;
        uint32_t outer = uint32_t(item.position) + uint32_t(tile / channels / pixels) * channels * pixels;
        for (int64_t i = 0; i < count;) {
            const int64_t run = std::min<int64_t>(channels - channel, count - i);
            const uint32_t first = outer + channel * pixels + pixel;
            for (int64_t j = 0; j < run; ++j) positions[i + j] = first + uint32_t(j) * pixels;
            i += run;
            channel = 0;
            if (++pixel == pixels) pixel = 0, outer += channels * pixels;
        }
        update<sampled, coupled, false>(item, options, scalars, tile, count, positions);
    }
}

using Part = void (*)(const Item &, const Options &, Scalars, int64_t, int64_t);

Part choose(bool sampled, const Options &options) {
    const Decay decay = !options.decay || options.decoupled ? kNone : options.mask_decay ? kMasked : kUnmasked;
    if (decay == kMasked) return sampled ? part<true, kMasked> : part<false, kMasked>;
    if (decay == kUnmasked) return sampled ? part<true, kUnmasked> : part<false, kUnmasked>;
    return sampled ? part<true, kNone> : part<false, kNone>;
}

Scalars advance(const Item &item, const Options &options) {
    const double step = *item.step += 1;
    if (!options.bias_correction) return {float(options.lr), 1};
    return {float(options.lr / (1 - std::pow(options.beta1, step))),
            float(std::sqrt(1 - std::pow(options.beta2, step)))};
}

}  // namespace

extern "C" void sgabench_step(Item *items, int64_t count, const Options *options) {
    int64_t total = 0;
    for (int64_t i = 0; i < count; ++i) {
        const Scalars scalars = advance(items[i], *options);
        std::memcpy(&items[i].reserved, &scalars, sizeof scalars);
        total += items[i].size;
    }
    const int64_t threads = std::max<int64_t>(1, std::min(options->threads, total / kGrain));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t thread = 0; thread < threads; ++thread) {
        const int64_t from = total * thread / threads, to = total * (thread + 1) / threads;
        int64_t before = 0;
        for (int64_t i = 0; i < count && before < to; before += items[i].size, ++i) {
            const int64_t begin = std::max<int64_t>(0, from - before);
            const int64_t end = std::min(items[i].size, to - before);
            if (begin >= end) continue;
            Scalars scalars;
            std::memcpy(&scalars, &items[i].reserved, sizeof scalars);
            choose(items[i].sampled, *options)(items[i], *options, scalars, begin, end);
        }
    }
}
