// Convolutions of 3 x 3 pixels with stride 1 and a border of one pixel of zeros, in float32 and channels last: forward,
// and the gradients of input and weight, by Winograd's minimal filtering F(2 x 2, 3 x 3) (Lavin and Gray 2015, arXiv
// 1509.09308, section 4.1): 16 multiplications instead of 36 for each 2 x 2 outputs and pair of channels.
//
// Output is cut into tiles of 2 x 2 pixels. A tile's value is A^T [(G g G^T) * (B^T d B)] A, with d the 4 x 4 pixels of
// the input around the tile, and g the weight. The products of all channels are 16 matrix products, one for each of the
// positions of the 4 x 4 transform, over a group of tiles that fits into the cache. The gradient of the weight is
// G^T [sum over tiles of (B^T d B) * (A e A^T)] G, with e the gradient of a tile.
//
// No result depends on the number of threads: a tile is computed by itself, and the gradient of the weight is the sum
// over parts whose number follows from the shapes, added up in their order.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

namespace {

// Channels of a vector of this processor, and vectors that a matrix product adds up at a time.
#if defined(__AVX512F__)
constexpr int64_t kLanes = 16, kRegisters = 16;
#elif defined(__AVX__)
constexpr int64_t kLanes = 8, kRegisters = 8;
#else
constexpr int64_t kLanes = 4, kRegisters = 8;
#endif
constexpr int64_t kLine = 16;       // floats of a cache line
constexpr int64_t kPositions = 16;  // of a transformed tile
constexpr int64_t kTiles = 16;      // of a group; its rows may have more
constexpr int64_t kParts = 16;      // of a gradient of the weight, at most
constexpr int64_t kTilesOfPart = 128;
typedef float Floats __attribute__((vector_size(4 * kLanes)));

// Eleven words of 64 bits, which convolution.py fills in.
struct Call {
    const float *input;
    const float *weight;    // [outputs][3][3][inputs], as its gradient
    float *output;          // of the forward pass; of the backward pass, the gradient of the input
    const float *gradient;  // of the output
    float *weight_gradient;
    int64_t images, height, width, inputs, outputs, threads;
};

inline Floats load(const float *from) {
    Floats values;
    std::memcpy(&values, from, sizeof values);
    return values;
}

inline void store(float *to, Floats values) { std::memcpy(to, &values, sizeof values); }

// Zeros that begin where a cache line does.
class Buffer {
  public:
    explicit Buffer(int64_t size) : memory_(size + kLine) {
        const auto misplaced = reinterpret_cast<uintptr_t>(memory_.data()) / sizeof(float) % kLine;
        data = memory_.data() + (kLine - misplaced) % kLine;
    }
    float *data;

  private:
    std::vector<float> memory_;
};

// How the tiles of a convolution from `inputs` to `outputs` channels are cut into groups of whole rows of tiles.
struct Grid {
    explicit Grid(const Call &call)
        : across(call.width / 2), down(call.height / 2), rows(call.images * down),
          rows_of_group(std::max<int64_t>(1, kTiles / across)),
          capacity((rows_of_group * across + kTiles - 1) / kTiles * kTiles) {}

    int64_t across, down;  // tiles of an image
    int64_t rows;          // of tiles, of all images
    int64_t rows_of_group;
    int64_t capacity;  // tiles of a group, rounded up

    // Floats between the positions of transformed tiles; a multiple of a page would put all of them into a few places
    // of the cache.
    int64_t pitch(int64_t channels) const { return capacity * channels + kLine; }
};

// B^T d B of the tiles of a row, whose pixels are in four rows of the image.
template <int fixed>
inline void transform_input(const float *const (&pixels)[4], const Grid &grid, int64_t channels, float *to) {
    if (fixed) channels = fixed;
    const int64_t pitch = grid.pitch(channels);
    for (int64_t at = 0; at < channels; at += kLanes) {
        Floats half[4][4];  // B^T d
        const auto read = [&](int64_t x, int column) {
            Floats d[4];
            for (int r = 0; r < 4; ++r) d[r] = load(pixels[r] + x * channels + at);
            half[0][column] = d[0] - d[2];
            half[1][column] = d[1] + d[2];
            half[2][column] = d[2] - d[1];
            half[3][column] = d[1] - d[3];
        };
        for (int r = 0; r < 4; ++r) half[r][0] = Floats{};
        read(0, 1);
        for (int64_t x = 0; x < grid.across; ++x) {
            read(2 * x + 1, 2);
            if (x + 1 < grid.across)
                read(2 * x + 2, 3);
            else
                for (int r = 0; r < 4; ++r) half[r][3] = Floats{};
            float *tile = to + x * channels + at;
            for (int r = 0; r < 4; ++r) {
                const Floats *of = half[r];
                store(tile + (4 * r + 0) * pitch, of[0] - of[2]);
                store(tile + (4 * r + 1) * pitch, of[1] + of[2]);
                store(tile + (4 * r + 2) * pitch, of[2] - of[1]);
                store(tile + (4 * r + 3) * pitch, of[1] - of[3]);
                half[r][0] = half[r][2];
                half[r][1] = half[r][3];
            }
        }
    }
}

// A^T m A of a tile.
inline void transform_output(const float *from, int64_t pitch, int64_t channels, float *to, int64_t width) {
    for (int64_t at = 0; at < channels; at += kLanes) {
        Floats half[2][4];
        for (int c = 0; c < 4; ++c) {
            Floats m[4];
            for (int r = 0; r < 4; ++r) m[r] = load(from + (4 * r + c) * pitch + at);
            half[0][c] = m[0] + m[1] + m[2];
            half[1][c] = m[1] - m[2] - m[3];
        }
        for (int r = 0; r < 2; ++r) {
            float *row = to + r * width * channels + at;
            store(row, half[r][0] + half[r][1] + half[r][2]);
            store(row + channels, half[r][1] - half[r][2] - half[r][3]);
        }
    }
}

// A e A^T of a tile.
inline void transform_gradient(const float *from, int64_t width, int64_t channels, float *to, int64_t pitch) {
    for (int64_t at = 0; at < channels; at += kLanes) {
        Floats half[4][2];
        for (int c = 0; c < 2; ++c) {
            const Floats upper = load(from + c * channels + at), lower = load(from + (width + c) * channels + at);
            half[0][c] = upper;
            half[1][c] = upper + lower;
            half[2][c] = upper - lower;
            half[3][c] = -lower;
        }
        for (int r = 0; r < 4; ++r) {
            store(to + (4 * r + 0) * pitch + at, half[r][0]);
            store(to + (4 * r + 1) * pitch + at, half[r][0] + half[r][1]);
            store(to + (4 * r + 2) * pitch + at, half[r][0] - half[r][1]);
            store(to + (4 * r + 3) * pitch + at, -half[r][1]);
        }
    }
}

// G g G^T of weights [3][3][size].
void transform_weight(const float *from, float *to, int64_t size) {
    for (int64_t at = 0; at < size; at += kLanes) {
        Floats half[4][3];
        for (int c = 0; c < 3; ++c) {
            Floats g[3];
            for (int r = 0; r < 3; ++r) g[r] = load(from + (3 * r + c) * size + at);
            half[0][c] = g[0];
            half[1][c] = (g[0] + g[2] + g[1]) * 0.5f;
            half[2][c] = (g[0] + g[2] - g[1]) * 0.5f;
            half[3][c] = g[2];
        }
        for (int r = 0; r < 4; ++r) {
            const Floats *of = half[r];
            store(to + (4 * r + 0) * size + at, of[0]);
            store(to + (4 * r + 1) * size + at, (of[0] + of[2] + of[1]) * 0.5f);
            store(to + (4 * r + 2) * size + at, (of[0] + of[2] - of[1]) * 0.5f);
            store(to + (4 * r + 3) * size + at, of[2]);
        }
    }
}

// G^T s G, to [3][3][size].
void transform_sums(const float *from, float *to, int64_t size) {
    for (int64_t at = 0; at < size; at += kLanes) {
        Floats half[3][4];
        for (int c = 0; c < 4; ++c) {
            Floats s[4];
            for (int r = 0; r < 4; ++r) s[r] = load(from + (4 * r + c) * size + at);
            half[0][c] = s[0] + (s[1] + s[2]) * 0.5f;
            half[1][c] = (s[1] - s[2]) * 0.5f;
            half[2][c] = (s[1] + s[2]) * 0.5f + s[3];
        }
        for (int r = 0; r < 3; ++r) {
            const Floats *of = half[r];
            store(to + (3 * r + 0) * size + at, of[0] + (of[1] + of[2]) * 0.5f);
            store(to + (3 * r + 1) * size + at, (of[1] - of[2]) * 0.5f);
            store(to + (3 * r + 2) * size + at, (of[1] + of[2]) * 0.5f + of[3]);
        }
    }
}

// Rows of a matrix product: to[row][column] (of `columns`) is the sum over `depth` of from[row][k] times with[k][column].
// The result may take the place of `from` where all columns are computed at once.
template <int width, int fixed>
inline void multiply(const float *from, const float *with, float *to, int64_t depth, int64_t columns) {
    constexpr int height = kRegisters / width;
    if (fixed) depth = columns = fixed;
    Floats sums[height][width] = {};
    for (int64_t k = 0; k < depth; ++k) {
        Floats factors[width];
        for (int j = 0; j < width; ++j) factors[j] = load(with + k * columns + j * kLanes);
        for (int i = 0; i < height; ++i)
            for (int j = 0; j < width; ++j) sums[i][j] += from[i * depth + k] * factors[j];
    }
    for (int i = 0; i < height; ++i)
        for (int j = 0; j < width; ++j) store(to + i * columns + j * kLanes, sums[i][j]);
}

// Adds to sums[row][column] the sum over `depth` of left[k][row] times right[k][column].
template <int width, int fixed>
inline void add_products(
    const float *left, const float *right, float *sums, int64_t depth, int64_t rows, int64_t columns) {
    constexpr int height = kRegisters / width;
    if (fixed) rows = columns = fixed;
    Floats own[height][width];
    for (int i = 0; i < height; ++i)
        for (int j = 0; j < width; ++j) own[i][j] = load(sums + i * columns + j * kLanes);
    for (int64_t k = 0; k < depth; ++k) {
        Floats factors[width];
        for (int j = 0; j < width; ++j) factors[j] = load(right + k * columns + j * kLanes);
        for (int i = 0; i < height; ++i)
            for (int j = 0; j < width; ++j) own[i][j] += left[k * rows + i] * factors[j];
    }
    for (int i = 0; i < height; ++i)
        for (int j = 0; j < width; ++j) store(sums + i * columns + j * kLanes, own[i][j]);
}

inline void pixels_of(
    const Call &call, const float *input, int64_t channels, int64_t row, const float *zeros, const float *(&pixels)[4]) {
    const int64_t down = call.height / 2, line = call.width * channels;
    for (int r = 0; r < 4; ++r) {
        const int64_t y = row % down * 2 - 1 + r;
        pixels[r] = y >= 0 && y < call.height ? input + (row / down * call.height + y) * line : zeros;
    }
}

// The weight, or for the gradient of the input the weight turned around, as [3][3][inputs][outputs].
void lay_out(const Call &call, bool backward, float *to) {
    const int64_t size = call.inputs * call.outputs;
    for (int64_t o = 0; o < call.outputs; ++o)
        for (int64_t position = 0; position < 9; ++position) {
            const float *from = call.weight + (o * 9 + position) * call.inputs;
            if (backward)
                std::memcpy(to + (8 - position) * size + o * call.inputs, from, sizeof(float) * call.inputs);
            else
                for (int64_t i = 0; i < call.inputs; ++i) to[position * size + i * call.outputs + o] = from[i];
        }
}

template <int width, int fixed>
void convolve(const Call &call, bool backward) {
    const int64_t inputs = fixed ? fixed : backward ? call.outputs : call.inputs;
    const int64_t outputs = fixed ? fixed : backward ? call.inputs : call.outputs;
    const Grid grid(call);
    // Tiles that do not exist stay zero, and would not if products took the place of tiles.
    const bool in_place = fixed == width * kLanes && grid.capacity == grid.rows_of_group * grid.across;
    const int64_t size = inputs * outputs;
    Buffer weight(9 * size), transformed(kPositions * size);
    lay_out(call, backward, weight.data);
    transform_weight(weight.data, transformed.data, size);
    const float *input = backward ? call.gradient : call.input;
    const int64_t groups = (grid.rows + grid.rows_of_group - 1) / grid.rows_of_group;
#pragma omp parallel num_threads(call.threads)
    {
        Buffer tiles(kPositions * grid.pitch(inputs)), zeros(call.width * inputs);
        Buffer others(in_place ? 0 : kPositions * grid.pitch(outputs));
        float *products = in_place ? tiles.data : others.data;
#pragma omp for schedule(static)
        for (int64_t group = 0; group < groups; ++group) {
            const int64_t first = group * grid.rows_of_group;
            const int64_t last = std::min(grid.rows, first + grid.rows_of_group);
            const auto output_of = [&](int64_t row) { return call.output + row * 2 * call.width * outputs; };
            for (int64_t row = first; row < last; ++row) {
                const float *pixels[4];
                pixels_of(call, input, inputs, row, zeros.data, pixels);
                transform_input<fixed>(pixels, grid, inputs, tiles.data + (row - first) * grid.across * inputs);
            }
            for (int64_t position = 0; position < kPositions; ++position) {
                const float *from = tiles.data + position * grid.pitch(inputs);
                const float *with = transformed.data + position * size;
                float *to = products + position * grid.pitch(outputs);
                for (int64_t o = 0; o < outputs; o += width * kLanes)
                    for (int64_t tile = 0; tile < grid.capacity; tile += kRegisters / width)
                        multiply<width, fixed>(from + tile * inputs, with + o, to + tile * outputs + o, inputs, outputs);
            }
            for (int64_t row = first; row < last; ++row)
                for (int64_t x = 0; x < grid.across; ++x) {
                    const float *tile = products + ((row - first) * grid.across + x) * outputs;
                    float *to = output_of(row) + 2 * x * outputs;
                    transform_output(tile, grid.pitch(outputs), outputs, to, call.width);
                }
        }
    }
}

template <int width, int fixed>
void weight_gradient(const Call &call) {
    const int64_t inputs = fixed ? fixed : call.inputs, outputs = fixed ? fixed : call.outputs;
    const Grid grid(call);
    const int64_t size = inputs * outputs;
    const int64_t parts = std::clamp<int64_t>(grid.rows * grid.across / kTilesOfPart, 1, kParts);
    Buffer gradients(parts * 9 * size);
#pragma omp parallel num_threads(call.threads)
    {
        Buffer tiles(kPositions * grid.pitch(inputs)), zeros(call.width * inputs);
        Buffer others(kPositions * grid.pitch(outputs)), sums(kPositions * size);
#pragma omp for schedule(static)
        for (int64_t part = 0; part < parts; ++part) {
            std::fill(sums.data, sums.data + kPositions * size, 0.0f);
            const int64_t end = grid.rows * (part + 1) / parts;
            for (int64_t first = grid.rows * part / parts; first < end; first += grid.rows_of_group) {
                const int64_t last = std::min(end, first + grid.rows_of_group);
                for (int64_t row = first; row < last; ++row) {
                    const float *pixels[4];
                    pixels_of(call, call.input, inputs, row, zeros.data, pixels);
                    const int64_t tile = (row - first) * grid.across;
                    transform_input<fixed>(pixels, grid, inputs, tiles.data + tile * inputs);
                    for (int64_t x = 0; x < grid.across; ++x) {
                        const float *from = call.gradient + (row * call.width + x) * 2 * outputs;
                        float *to = others.data + (tile + x) * outputs;
                        transform_gradient(from, call.width, outputs, to, grid.pitch(outputs));
                    }
                }
                for (int64_t position = 0; position < kPositions; ++position) {
                    const float *left = tiles.data + position * grid.pitch(inputs);
                    const float *right = others.data + position * grid.pitch(outputs);
                    for (int64_t o = 0; o < outputs; o += width * kLanes)
                        for (int64_t i = 0; i < inputs; i += kRegisters / width)
                            add_products<width, fixed>(
                                left + i, right + o, sums.data + (position * inputs + i) * outputs + o,
                                (last - first) * grid.across, inputs, outputs);
                }
            }
            transform_sums(sums.data, gradients.data + part * 9 * size, size);
        }
    }
    for (int64_t at = 0; at < 9 * size; at += kLanes) {
        Floats sum = load(gradients.data + at);
        for (int64_t part = 1; part < parts; ++part) sum += load(gradients.data + part * 9 * size + at);
        store(gradients.data + at, sum);
    }
    for (int64_t position = 0; position < 9; ++position)
        for (int64_t i = 0; i < inputs; ++i)
            for (int64_t o = 0; o < outputs; ++o)
                call.weight_gradient[(o * 9 + position) * inputs + i] = gradients.data[(position * inputs + i) * outputs + o];
}

// Calls a function with the vectors of outputs to take at a time, and with the channels if they are known in advance.
template <typename Function>
void choose(int64_t inputs, int64_t outputs, Function function) {
    using One = std::integral_constant<int, 1>;
    using Two = std::integral_constant<int, 2>;
    using Of16 = std::integral_constant<int, kLanes == 16 ? 1 : 2>;
    const int64_t same = inputs == outputs ? inputs : 0;
    if (same == 16) return function(Of16(), std::integral_constant<int, 16>());
    if (same == 32) return function(Two(), std::integral_constant<int, 32>());
    if (same == 64) return function(Two(), std::integral_constant<int, 64>());
    if (outputs % (2 * kLanes)) return function(One(), std::integral_constant<int, 0>());
    function(Two(), std::integral_constant<int, 0>());
}

}  // namespace

extern "C" void sgabench_convolution_forward(const Call *call) {
    choose(call->inputs, call->outputs, [&](auto width, auto fixed) { convolve<width, fixed>(*call, false); });
}

extern "C" void sgabench_convolution_input_gradient(const Call *call) {
    choose(call->outputs, call->inputs, [&](auto width, auto fixed) { convolve<width, fixed>(*call, true); });
}

extern "C" void sgabench_convolution_weight_gradient(const Call *call) {
    choose(call->inputs, call->outputs, [&](auto width, auto fixed) { weight_gradient<width, fixed>(*call); });
}
