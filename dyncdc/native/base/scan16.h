/* Sixteen bytes at a time: by the vector instructions that every x86-64 has, or else one by one. */

#ifndef DYNCDC_BLOCKS_H
#define DYNCDC_BLOCKS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BLOCK 16
#define BLOCKS (4 * BLOCK)

#ifdef __GNUC__
#define INLINE inline __attribute__((always_inline))
#define NOT_INLINE __attribute__((noinline))
#else
#define INLINE inline
#define NOT_INLINE
#endif

#if defined(__SSE2__) && defined(__GNUC__) && !defined(DYNCDC_PORTABLE)
#include <emmintrin.h>

/* A bit for each byte that is a quote, a backslash or a control character. */
static inline uint32_t block_odd(const char *at)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)at);
    __m128i quotes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')), slashes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
    __m128i controls = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
    return (uint32_t)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quotes, slashes), controls));
}

static inline int block_is_ascii(const char *at)
{
    return _mm_movemask_epi8(_mm_loadu_si128((const __m128i *)at)) == 0;
}

static inline int blocks_are_ascii(const char *at)
{
    const __m128i *blocks = (const __m128i *)at;
    __m128i one = _mm_or_si128(_mm_loadu_si128(blocks), _mm_loadu_si128(blocks + 1));
    __m128i other = _mm_or_si128(_mm_loadu_si128(blocks + 2), _mm_loadu_si128(blocks + 3));
    return _mm_movemask_epi8(_mm_or_si128(one, other)) == 0;
}

static inline int first_bit(uint32_t bits)
{
    return __builtin_ctz(bits);
}

#else

static inline uint32_t block_odd(const char *at)
{
    uint32_t found = 0;
    for (int place = 0; place < BLOCK; place++)
        found |= (uint32_t)(at[place] == '"' || at[place] == '\\' || (unsigned char)at[place] < 0x20) << place;
    return found;
}

static inline int block_is_ascii(const char *at)
{
    uint64_t words[2];
    memcpy(words, at, sizeof words);
    return !((words[0] | words[1]) & 0x8080808080808080u);
}

static inline int blocks_are_ascii(const char *at)
{
    return block_is_ascii(at) && block_is_ascii(at + BLOCK) && block_is_ascii(at + 2 * BLOCK) &&
           block_is_ascii(at + 3 * BLOCK);
}

static inline int first_bit(uint32_t bits)
{
    int place = 0;
    while (!(bits >> place & 1))
        place++;
    return place;
}

#endif

static inline uint64_t word_at(const char *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static inline uint32_t half_at(const char *at)
{
    uint32_t half;
    memcpy(&half, at, sizeof half);
    return half;
}

/* Whether two runs of bytes are the same: names are short, and a call would cost more than the comparison. */
static inline int same_bytes(const char *one, const char *other, ptrdiff_t size)
{
    if (size >= 8) {
        for (ptrdiff_t place = 0; place + 8 < size; place += 8)
            if (word_at(one + place) != word_at(other + place))
                return 0;
        return word_at(one + size - 8) == word_at(other + size - 8);
    }
    if (size >= 4)
        return half_at(one) == half_at(other) && half_at(one + size - 4) == half_at(other + size - 4);
    for (ptrdiff_t place = 0; place < size; place++)
        if (one[place] != other[place])
            return 0;
    return 1;
}

#endif
