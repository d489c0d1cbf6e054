// BatchNorm over channels-last activations with the sum of a residual and ReLU, forward and backward, in two passes
// through memory each.
//
// Rows (pixels of all images) are cut into chunks whose sums are added up in their order, so that the result does not
// depend on the number of threads. Arithmetic is in float32, the sums over chunks in float64.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int64_t kLanes = 16;  // channels of a vector of this processor
#elif defined(__AVX__)
constexpr int64_t kLanes = 8;
#else
constexpr int64_t kLanes = 4;
#endif
constexpr int64_t kChunks = 64;
constexpr int64_t kSamples = 8;  // rows of a chunk whose mean its sums are taken around

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));
typedef int32_t Flags __attribute__((vector_size(4 * kLanes)));
typedef uint16_t Halves __attribute__((vector_size(2 * kLanes)));

// Eighteen words of 64 bits and two doubles, which batch_norm.py fills in. Activations are of T, the rest is float.
struct Call {
    const void *input;
    const void *residual;      // or null
    void *output;              // forward: written; backward with a residual: read
    const void *gradient;      // of the output
    void *input_gradient;
    void *residual_gradient;   // with a residual
    const float *weight, *bias;
    float *mean, *scale;       // of the batch: its mean, and 1 / its standard deviation
    float *running_mean, *running_var;
    float *weight_gradient, *bias_gradient;
    int64_t rows, channels, is_bf16, threads;
    double eps, momentum;
};

inline Floats load(const float *from) {
    Floats values;
    std::memcpy(&values, from, sizeof values);
    return values;
}

inline void store(float *to, Floats values) { std::memcpy(to, &values, sizeof values); }

inline Floats load(const uint16_t *from) {
    Halves halves;
    std::memcpy(&halves, from, sizeof halves);
    const Words words = __builtin_convertvector(halves, Words) << 16;
    Floats values;
    std::memcpy(&values, &words, sizeof values);
    return values;
}

inline void store(uint16_t *to, Floats values) {  // rounds to even
    Words words;
    std::memcpy(&words, &values, sizeof words);
    words += 0x7FFF + ((words >> 16) & 1);
    const Halves halves = __builtin_convertvector(words >> 16, Halves);
    std::memcpy(to, &halves, sizeof halves);
}

inline Floats zeros() { return Floats{}; }

// What is not positive is zero; what is no number stays as it is.
inline Floats positive(Floats values) { return values < zeros() ? zeros() : values; }

inline Floats where_positive(Floats values, Floats chosen) { return values <= zeros() ? zeros() : chosen; }

template <int width>
using Width = std::integral_constant<int, width>;

struct Chunk {
    int64_t begin, end;
};

inline Chunk chunk_of(const Call &call, int64_t index) {
    return {call.rows * index / kChunks, call.rows * (index + 1) / kChunks};
}

// Adds up two numbers for each channel over the rows of a chunk: `add` gets a row and what to add to.
template <int width, typename Add>
void add_rows(Chunk chunk, float *firsts, float *seconds, Add add) {
    constexpr int unroll = 4 / width;  // sums that need not wait for each other
    Floats first[unroll][width] = {}, second[unroll][width] = {};
    int64_t row = chunk.begin;
    for (; row + unroll <= chunk.end; row += unroll)
        for (int lane = 0; lane < unroll; ++lane) add(row + lane, first[lane], second[lane]);
    for (; row < chunk.end; ++row) add(row, first[0], second[0]);
    for (int lane = 1; lane < unroll; ++lane)
        for (int j = 0; j < width; ++j) first[0][j] += first[lane][j], second[0][j] += second[lane][j];
    for (int j = 0; j < width; ++j) {
        store(firsts + j * kLanes, first[0][j]);
        store(seconds + j * kLanes, second[0][j]);
    }
}

// Sums over the rows of a chunk of (x - origin) and of its square, for `width` vectors of channels. The origin is near
// the mean, so that little is lost in the squares; a single row could be far from it.
template <typename T, int width>
void moments(const Call &call, Chunk chunk, int64_t channel, float *origins, float *sums, float *squares) {
    const T *input = static_cast<const T *>(call.input) + channel;
    Floats origin[width] = {};
    const int64_t samples = std::min(kSamples, chunk.end - chunk.begin);
    for (int64_t i = 0; i < samples; ++i) {
        const int64_t at = chunk.begin + (chunk.end - chunk.begin) * i / samples;
        for (int j = 0; j < width; ++j) origin[j] += load(input + at * call.channels + j * kLanes) / float(samples);
    }
    for (int j = 0; j < width; ++j) store(origins + channel + j * kLanes, origin[j]);
    add_rows<width>(chunk, sums + channel, squares + channel, [&](int64_t row, Floats *sum, Floats *square) {
        for (int j = 0; j < width; ++j) {
            const Floats value = load(input + row * call.channels + j * kLanes) - origin[j];
            sum[j] += value;
            square[j] += value * value;
        }
    });
}

template <typename T, int width>
void normalize(const Call &call, Chunk chunk, int64_t channel) {
    const T *input = static_cast<const T *>(call.input) + channel;
    const T *residual = call.residual ? static_cast<const T *>(call.residual) + channel : nullptr;
    T *output = static_cast<T *>(call.output) + channel;
    Floats factor[width], shift[width];
    for (int j = 0; j < width; ++j) {
        const int64_t at = channel + j * kLanes;
        factor[j] = load(call.weight + at) * load(call.scale + at);
        shift[j] = load(call.bias + at) - load(call.mean + at) * factor[j];
    }
    for (int64_t row = chunk.begin; row < chunk.end; ++row)
        for (int j = 0; j < width; ++j) {
            const int64_t at = row * call.channels + j * kLanes;
            Floats value = load(input + at) * factor[j] + shift[j];
            if (residual) value += load(residual + at);
            store(output + at, positive(value));
        }
}

// Sums over the rows of a chunk of the gradient behind ReLU, and of its product with (x - mean).
template <typename T, int width>
void gradient_sums(const Call &call, Chunk chunk, int64_t channel, float *sums, float *products) {
    const T *input = static_cast<const T *>(call.input) + channel;
    const T *gradient = static_cast<const T *>(call.gradient) + channel;
    const T *output = static_cast<const T *>(call.output) + channel;
    T *passed = call.residual_gradient ? static_cast<T *>(call.residual_gradient) + channel : nullptr;
    Floats factor[width], shift[width], mean[width];
    for (int j = 0; j < width; ++j) {
        const int64_t at = channel + j * kLanes;
        mean[j] = load(call.mean + at);
        factor[j] = load(call.weight + at) * load(call.scale + at);
        shift[j] = load(call.bias + at) - mean[j] * factor[j];
    }
    add_rows<width>(chunk, sums + channel, products + channel, [&](int64_t row, Floats *sum, Floats *product) {
        for (int j = 0; j < width; ++j) {
            const int64_t at = row * call.channels + j * kLanes;
            const Floats value = load(input + at);
            Floats part = load(gradient + at);
            if (passed) {
                part = where_positive(load(output + at), part);
                store(passed + at, part);
            } else {
                part = where_positive(value * factor[j] + shift[j], part);
            }
            sum[j] += part;
            product[j] += part * (value - mean[j]);
        }
    });
}

template <typename T, int width>
void input_gradient(const Call &call, Chunk chunk, int64_t channel) {
    const T *input = static_cast<const T *>(call.input) + channel;
    const bool passed = call.residual_gradient;
    const T *gradient = static_cast<const T *>(passed ? call.residual_gradient : call.gradient) + channel;
    T *result = static_cast<T *>(call.input_gradient) + channel;
    Floats factor[width], shift[width], slope[width], constant[width];
    for (int j = 0; j < width; ++j) {
        const int64_t at = channel + j * kLanes;
        const Floats scale = load(call.scale + at), mean = load(call.mean + at);
        factor[j] = load(call.weight + at) * scale;
        shift[j] = load(call.bias + at) - mean * factor[j];
        slope[j] = factor[j] * scale * load(call.weight_gradient + at) / float(call.rows);
        constant[j] = factor[j] * load(call.bias_gradient + at) / float(call.rows) - mean * slope[j];
    }
    for (int64_t row = chunk.begin; row < chunk.end; ++row)
        for (int j = 0; j < width; ++j) {
            const int64_t at = row * call.channels + j * kLanes;
            const Floats value = load(input + at);
            Floats part = load(gradient + at);
            if (!passed) part = where_positive(value * factor[j] + shift[j], part);
            store(result + at, part * factor[j] - value * slope[j] - constant[j]);
        }
}

// Calls a function with the number of vectors (four, two or one) to take at a time and the first channel of them.
template <typename Function>
void over_channels(const Call &call, Function function) {
    int64_t channel = 0;
    for (; channel + 4 * kLanes <= call.channels; channel += 4 * kLanes) function(Width<4>(), channel);
    for (; channel + 2 * kLanes <= call.channels; channel += 2 * kLanes) function(Width<2>(), channel);
    for (; channel + kLanes <= call.channels; channel += kLanes) function(Width<1>(), channel);
}

void statistics_of(const Call &call, const float *origins, const float *sums, const float *squares) {
    for (int64_t channel = 0; channel < call.channels; ++channel) {
        double count = 0, mean = 0, spread = 0;  // Chan et al. 1979: of the chunks so far
        for (int64_t index = 0; index < kChunks; ++index) {
            const Chunk chunk = chunk_of(call, index);
            const double number = chunk.end - chunk.begin;
            if (!number) continue;
            const int64_t at = index * call.channels + channel;
            const double sum = sums[at], own = origins[at] + sum / number, apart = own - mean;
            spread += squares[at] - sum * sum / number;
            spread += apart * apart * count * number / (count + number);
            count += number;
            mean += apart * number / count;
        }
        spread = spread < 0 ? 0 : spread;
        call.mean[channel] = mean;
        call.scale[channel] = 1 / std::sqrt(spread / count + call.eps);
        if (call.running_mean) {
            call.running_mean[channel] += call.momentum * (mean - call.running_mean[channel]);
            call.running_var[channel] += call.momentum * (spread / (count - 1) - call.running_var[channel]);
        }
    }
}

void sums_of(const Call &call, const float *sums, const float *products) {
    for (int64_t channel = 0; channel < call.channels; ++channel) {
        double sum = 0, product = 0;
        for (int64_t index = 0; index < kChunks; ++index) {
            sum += sums[index * call.channels + channel];
            product += products[index * call.channels + channel];
        }
        call.bias_gradient[channel] = sum;
        call.weight_gradient[channel] = product * call.scale[channel];
    }
}

// A thread takes its chunks in the opposite order the second time: the last ones are still in its cache.
template <typename First, typename Between, typename Second>
void two_passes(const Call &call, First first, Between between, Second second) {
#pragma omp parallel for num_threads(call.threads) schedule(static)
    for (int64_t thread = 0; thread < call.threads; ++thread)
        for (int64_t i = kChunks * thread / call.threads; i < kChunks * (thread + 1) / call.threads; ++i) first(i);
    between();
#pragma omp parallel for num_threads(call.threads) schedule(static)
    for (int64_t thread = 0; thread < call.threads; ++thread)
        for (int64_t i = kChunks * (thread + 1) / call.threads; i-- > kChunks * thread / call.threads;) second(i);
}

template <typename T>
void forward(const Call &call) {
    std::vector<float> origins(3 * kChunks * call.channels);
    float *sums = origins.data() + kChunks * call.channels, *squares = sums + kChunks * call.channels;
    two_passes(
        call,
        [&](int64_t index) {
            const Chunk chunk = chunk_of(call, index);
            const int64_t at = index * call.channels;
            if (chunk.begin == chunk.end) return;
            over_channels(call, [&](auto width, int64_t channel) {
                moments<T, width>(call, chunk, channel, origins.data() + at, sums + at, squares + at);
            });
        },
        [&] { statistics_of(call, origins.data(), sums, squares); },
        [&](int64_t index) {
            over_channels(call, [&](auto width, int64_t channel) {
                normalize<T, width>(call, chunk_of(call, index), channel);
            });
        });
}

template <typename T>
void backward(const Call &call) {
    std::vector<float> sums(2 * kChunks * call.channels);
    float *products = sums.data() + kChunks * call.channels;
    two_passes(
        call,
        [&](int64_t index) {
            const int64_t at = index * call.channels;
            over_channels(call, [&](auto width, int64_t channel) {
                gradient_sums<T, width>(call, chunk_of(call, index), channel, sums.data() + at, products + at);
            });
        },
        [&] { sums_of(call, sums.data(), products); },
        [&](int64_t index) {
            over_channels(call, [&](auto width, int64_t channel) {
                input_gradient<T, width>(call, chunk_of(call, index), channel);
            });
        });
}

}  // namespace

extern "C" void sgabench_batch_norm_forward(const Call *call) {
    call->is_bf16 ? forward<uint16_t>(*call) : forward<float>(*call);
}

extern "C" void sgabench_batch_norm_backward(const Call *call) {
    call->is_bf16 ? backward<uint16_t>(*call) : backward<float>(*call);
}
