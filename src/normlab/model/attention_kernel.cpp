// softmax(mask(clamp(scale * q k^T))) v and its gradients on CPU, one head at a time, one head a thread.
//
// A block of queries sees the keys up to its own last one; its logits live in a buffer of the thread and never in
// memory of size T * T. The backward pass makes them anew from queries, keys and each row's maximum and sum.
// All arithmetic is in float32, whatever the type of the tensors.  Dao et al. 2022 (FlashAttention), algorithms 1, 4.
//
// A matrix "by panels" stands transposed, in panels of COLUMNS of its rows: element (row j, channel k) is at
// [j / COLUMNS][k][j % COLUMNS], so that a product over k reads consecutive memory.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

typedef float Vec __attribute__((vector_size(64)));
typedef int32_t IntVec __attribute__((vector_size(64)));
static const long LANES = 16, ROWS = 32, COLUMNS = 64, CHANNELS = 32;
enum Clamp { NONE = 0, HARD = 1, SOFT = 2 };

// A tensor B, H, T, K whose last dimension is contiguous; strides in elements.
struct Heads { void* data; long batch, head, time; };

struct Problem {
    long batch_size, num_heads, num_tokens, head_width, is_bfloat16, clamp, batch_size_of_limit, num_threads;
    float scale;
    const float* limits;  // one for every batch_size_of_limit sequences
};

static inline Vec load(const float* from) { Vec x; memcpy(&x, from, sizeof x); return x; }
static inline void store(float* to, Vec x) { memcpy(to, &x, sizeof x); }
static inline Vec all(float x) { return Vec{} + x; }
static inline float sum(Vec x) { float s = 0; for (long l = 0; l < LANES; l++) s += x[l]; return s; }
static inline float max(Vec x) { float m = x[0]; for (long l = 1; l < LANES; l++) m = x[l] > m ? x[l] : m; return m; }

// exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln 2 / 2, by Taylor's polynomial; 0 below, NaN stays.
static inline Vec exponential(Vec x) {
    Vec bounded = x < -87.f ? all(-87.f) : (x > 88.f ? all(88.f) : x);
    Vec shifted = bounded * 1.44269504f + 12582912.f;  // 1.5 * 2^23: adding it rounds
    Vec n = shifted - 12582912.f;
    Vec r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
    Vec p = all(1.f / 5040);
    p = p * r + 1.f / 720; p = p * r + 1.f / 120; p = p * r + 1.f / 24; p = p * r + 1.f / 6;
    p = p * r + 0.5f; p = p * r + 1.f; p = p * r + 1.f;
    IntVec power = ((IntVec)shifted << 23) + (127 << 23);
    return x < -87.f ? Vec{} : p * (Vec)power;
}

// Near zero by a polynomial (Cephes, tanhf), elsewhere 1 - 2 / (exp(2 |x|) + 1) with the sign of x.
static inline Vec tangent(Vec x) {
    Vec square = x * x;
    Vec p = all(-5.70498872745e-3f);
    p = p * square + 2.06390887954e-2f; p = p * square - 5.37397155531e-2f;
    p = p * square + 1.33314422036e-1f; p = p * square - 3.33332819422e-1f;
    Vec size = x < 0.f ? -x : x;
    Vec far = 1.f - 2.f / (exponential(2.f * (size > 40.f ? all(40.f) : size)) + 1.f);
    return size < 0.625f ? x + x * square * p : (x < 0.f ? -far : far);
}

template <int CLAMP> static inline Vec clamped(Vec z, float limit) {
    if (CLAMP == HARD) return z > limit ? all(limit) : (z < -limit ? all(-limit) : z);
    if (CLAMP == SOFT) return limit * tangent(z * (1.f / limit));
    return z;
}

// The gradient of z, of which the clamp has made y, from that of y.
template <int CLAMP> static inline Vec through_clamp(Vec d_y, Vec z, Vec y, float limit) {
    if (CLAMP == HARD) return (z >= -limit) & (z <= limit) ? d_y : Vec{};
    if (CLAMP == SOFT) { Vec t = y * (1.f / limit); return d_y * (1.f - t * t); }
    return d_y;
}

static inline IntVec is_visible(long query, long key) {
    IntVec keys;
    for (long l = 0; l < LANES; l++) keys[l] = (int32_t)(key + l);
    return keys <= (int32_t)query;
}

static float as_float(uint16_t bits) { uint32_t wide = (uint32_t)bits << 16; float x; memcpy(&x, &wide, 4); return x; }

static uint16_t as_bfloat16(float x) {
    uint32_t bits; memcpy(&bits, &x, 4);
    if (x != x) return 0x7fc0;
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);  // to nearest, ties to even
}

// One head of a tensor as rows of padded width; what is beyond its end stays zero.
static void read_head(const Problem& of, const Heads& from, long b, long h, long width, float* rows) {
    for (long t = 0; t < of.num_tokens; t++, rows += width) {
        long at = b * from.batch + h * from.head + t * from.time;
        if (of.is_bfloat16) {
            const uint16_t* row = (const uint16_t*)from.data + at;
            for (long k = 0; k < of.head_width; k++) rows[k] = as_float(row[k]);
        } else memcpy(rows, (const float*)from.data + at, of.head_width * sizeof(float));
    }
}

static void write_head(const Problem& of, const Heads& to, long b, long h, long width, const float* rows) {
    for (long t = 0; t < of.num_tokens; t++, rows += width) {
        long at = b * to.batch + h * to.head + t * to.time;
        if (of.is_bfloat16) {
            uint16_t* row = (uint16_t*)to.data + at;
            for (long k = 0; k < of.head_width; k++) row[k] = as_bfloat16(rows[k]);
        } else memcpy((float*)to.data + at, rows, of.head_width * sizeof(float));
    }
}

static void by_panels(const float* rows, long num_rows, long width, float* panels) {
    for (long j = 0; j < num_rows; j++)
        for (long k = 0; k < width; k++)
            panels[((j / COLUMNS) * width + k) * COLUMNS + j % COLUMNS] = rows[j * width + k];
}

// products[i][j] = factor * sum_k rows[i][k] panel[k][j], for ROWS rows and the COLUMNS of a panel.
static inline void dot_rows(const float* rows, const float* panel, long width, float factor, float* products,
                            long stride) {
    for (long i = 0; i < ROWS; i += 4) {
        Vec acc[4][4] = {};
        for (long k = 0; k < width; k++) {
            Vec right[4];
            for (int c = 0; c < 4; c++) right[c] = load(panel + k * COLUMNS + c * LANES);
            for (int r = 0; r < 4; r++)
                for (int c = 0; c < 4; c++) acc[r][c] += rows[(i + r) * width + k] * right[c];
        }
        for (int r = 0; r < 4; r++)
            for (int c = 0; c < 4; c++) store(products + (i + r) * stride + c * LANES, acc[r][c] * factor);
    }
}

// sums[i][k] += sum_j weights[i * row_step + j * column_step] rows[j][k], for num_sums sums (a multiple of 8).
static inline void add_weighted(const float* weights, long row_step, long column_step, const float* rows, long num_rows,
                                long width, float* sums, long num_sums) {
    for (long i = 0; i < num_sums; i += 8)
        for (long k = 0; k < width; k += CHANNELS) {
            Vec acc[8][2];
            for (int r = 0; r < 8; r++)
                for (int c = 0; c < 2; c++) acc[r][c] = load(sums + (i + r) * width + k + c * LANES);
            for (long j = 0; j < num_rows; j++) {
                Vec first = load(rows + j * width + k), second = load(rows + j * width + k + LANES);
                for (int r = 0; r < 8; r++) {
                    float weight = weights[(i + r) * row_step + j * column_step];
                    acc[r][0] += weight * first;
                    acc[r][1] += weight * second;
                }
            }
            for (int r = 0; r < 8; r++)
                for (int c = 0; c < 2; c++) store(sums + (i + r) * width + k + c * LANES, acc[r][c]);
        }
}

static long up_to(long multiple, long n) { return (n + multiple - 1) / multiple * multiple; }

template <int CLAMP>
static void forward_head(const Problem& of, float limit, const float* q, const float* k_panels, const float* v,
                         float* out, float* row_max, float* row_sum, float* logits, long width, long stride) {
    for (long i0 = 0; i0 < of.num_tokens; i0 += ROWS) {
        long num_keys = up_to(LANES, i0 + ROWS);
        for (long j = 0; j < num_keys; j += COLUMNS)
            dot_rows(q + i0 * width, k_panels + j * width, width, of.scale, logits + j, stride);
        for (long i = i0; i < i0 + ROWS; i++) {
            float* row = logits + (i - i0) * stride;
            Vec largest = all(-INFINITY), total = {};
            for (long j = 0; j < num_keys; j += LANES) {
                Vec z = clamped<CLAMP>(load(row + j), limit);
                if (j + LANES > i) z = is_visible(i, j) ? z : all(-INFINITY);
                store(row + j, z);
                largest = z > largest ? z : largest;
            }
            float top = max(largest);
            for (long j = 0; j < num_keys; j += LANES) {
                Vec weight = exponential(load(row + j) - top);
                store(row + j, weight);
                total += weight;
            }
            row_max[i] = top, row_sum[i] = sum(total);
        }
        add_weighted(logits, stride, 1, v, num_keys, width, out + i0 * width, ROWS);
        for (long i = i0; i < i0 + ROWS; i++)
            for (long k = 0; k < width; k += LANES) store(out + i * width + k, load(out + i * width + k) / row_sum[i]);
    }
}

template <int CLAMP>
static void backward_head(const Problem& of, float limit, const float* q, const float* k, const float* k_panels,
                          const float* v_panels, const float* d_out, const float* row_max,
                          const float* row_sum, const float* deltas, float* dq, float* dk, float* dv, long width) {
    alignas(64) float weights[ROWS * COLUMNS], d_logits[ROWS * COLUMNS];
    for (long i0 = 0; i0 < of.num_tokens; i0 += ROWS)
        for (long j0 = 0; j0 < i0 + ROWS; j0 += COLUMNS) {
            dot_rows(q + i0 * width, k_panels + j0 * width, width, of.scale, weights, COLUMNS);
            dot_rows(d_out + i0 * width, v_panels + j0 * width, width, 1.f, d_logits, COLUMNS);
            for (long i = 0; i < ROWS; i++) {
                const float top = row_max[i0 + i], inverse = 1.f / row_sum[i0 + i], delta = deltas[i0 + i];
                for (long j = 0; j < COLUMNS; j += LANES) {
                    long at = i * COLUMNS + j;
                    IntVec visible = is_visible(i0 + i, j0 + j);
                    Vec z = load(weights + at), y = clamped<CLAMP>(z, limit);
                    Vec weight = exponential(y - top) * inverse;
                    Vec d_y = weight * (load(d_logits + at) - delta);
                    Vec d_logit = through_clamp<CLAMP>(d_y, z, y, limit) * of.scale;
                    store(weights + at, visible ? weight : Vec{});
                    store(d_logits + at, visible ? d_logit : Vec{});
                }
            }
            long num_keys = std::fmin(COLUMNS, i0 + ROWS - j0);
            add_weighted(d_logits, COLUMNS, 1, k + j0 * width, num_keys, width, dq + i0 * width, ROWS);
            add_weighted(d_logits, 1, COLUMNS, q + i0 * width, ROWS, width, dk + j0 * width, num_keys);
            add_weighted(weights, 1, COLUMNS, d_out + i0 * width, ROWS, width, dv + j0 * width, num_keys);
        }
}

#define BY_CLAMP(function, ...)                                  \
    if (of.clamp == HARD) function<HARD>(__VA_ARGS__);           \
    else if (of.clamp == SOFT) function<SOFT>(__VA_ARGS__);      \
    else function<NONE>(__VA_ARGS__);

extern "C" void forward(const Problem* problem, const Heads* query, const Heads* key, const Heads* value,
                        const Heads* output, float* row_max, float* row_sum) {
    const Problem& of = *problem;
    long width = up_to(CHANNELS, of.head_width), padded = up_to(COLUMNS, of.num_tokens), size = padded * width;
#pragma omp parallel num_threads(of.num_threads)
    {
        std::vector<float> q(size), k(size), v(size), k_panels(size), out(size), logits(ROWS * (padded + LANES));
#pragma omp for schedule(dynamic)
        for (long n = 0; n < of.batch_size * of.num_heads; n++) {
            long b = n / of.num_heads, h = n % of.num_heads;
            read_head(of, *query, b, h, width, q.data());
            read_head(of, *key, b, h, width, k.data());
            read_head(of, *value, b, h, width, v.data());
            by_panels(k.data(), padded, width, k_panels.data());
            std::fill(out.begin(), out.end(), 0.f);
            BY_CLAMP(forward_head, of, of.limits[b / of.batch_size_of_limit], q.data(), k_panels.data(), v.data(),
                     out.data(), row_max + n * padded, row_sum + n * padded, logits.data(), width, padded + LANES)
            write_head(of, *output, b, h, width, out.data());
        }
    }
}

extern "C" void backward(const Problem* problem, const Heads* query, const Heads* key, const Heads* value,
                         const Heads* output, const float* row_max, const float* row_sum, const Heads* d_output,
                         const Heads* d_query, const Heads* d_key, const Heads* d_value) {
    const Problem& of = *problem;
    long width = up_to(CHANNELS, of.head_width), padded = up_to(COLUMNS, of.num_tokens), size = padded * width;
#pragma omp parallel num_threads(of.num_threads)
    {
        std::vector<float> q(size), k(size), v(size), out(size), d_out(size), k_panels(size), v_panels(size), dq(size),
            dk(size), dv(size), deltas(padded);
#pragma omp for schedule(dynamic)
        for (long n = 0; n < of.batch_size * of.num_heads; n++) {
            long b = n / of.num_heads, h = n % of.num_heads;
            read_head(of, *query, b, h, width, q.data());
            read_head(of, *key, b, h, width, k.data());
            read_head(of, *value, b, h, width, v.data());
            read_head(of, *output, b, h, width, out.data());
            read_head(of, *d_output, b, h, width, d_out.data());
            by_panels(k.data(), padded, width, k_panels.data());
            by_panels(v.data(), padded, width, v_panels.data());
            for (std::vector<float>* gradient : {&dq, &dk, &dv}) std::fill(gradient->begin(), gradient->end(), 0.f);
            for (long t = 0; t < of.num_tokens; t++) {
                Vec delta = {};
                for (long at = t * width; at < (t + 1) * width; at += LANES) delta += load(&out[at]) * load(&d_out[at]);
                deltas[t] = sum(delta);
            }
            BY_CLAMP(backward_head, of, of.limits[b / of.batch_size_of_limit], q.data(), k.data(), k_panels.data(),
                     v_panels.data(), d_out.data(), row_max + n * padded, row_sum + n * padded, deltas.data(),
                     dq.data(), dk.data(), dv.data(), width)
            write_head(of, *d_query, b, h, width, dq.data());
            write_head(of, *d_key, b, h, width, dk.data());
            write_head(of, *d_value, b, h, width, dv.data());
        }
    }
}
