/* Base64 into bytes. Records of a stream come as nothing else, so this is done to every byte that is read. */

#ifndef DYNCDC_BASE64_H
#define DYNCDC_BASE64_H

#include <Python.h>
#include <stdint.h>

#define NOT_A_LETTER 0x80000000u

/* What each of the four dead letters of a group stands for, in its place. */
static uint32_t letters[4][256];

static void letters_prepare(void)
{
    const char *alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int place = 0; place < 4; place++) {
        for (int letter = 0; letter < 256; letter++)
            letters[place][letter] = NOT_A_LETTER;
        for (int value = 0; value < 64; value++)
            letters[place][(unsigned char)alphabet[value]] = (uint32_t)value << 6 * (3 - place);
    }
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(DYNCDC_PORTABLE)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))
#define LETTERS 32 /* at a time; they become 24 bytes, but as many as of these are written */

AVX2 static inline __m256i between(__m256i bytes, char first, char last)
{
    __m256i above = _mm256_cmpgt_epi8(bytes, _mm256_set1_epi8((char)(first - 1)));
    return _mm256_and_si256(above, _mm256_cmpgt_epi8(_mm256_set1_epi8((char)(last + 1)), bytes));
}

AVX2 static inline __m256i where(__m256i mask, int value)
{
    return _mm256_and_si256(mask, _mm256_set1_epi8((char)value));
}

/* Decode from the front while there are only dead letters and room to write beyond them. */
AVX2 static void decode_many(const unsigned char **at, const unsigned char *end, char **out)
{
    /* of each four bytes the lower three, the highest of them first; then without the gap between the halves */
    const __m256i order = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1));
    const __m256i together = _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7);
    for (; end - *at >= LETTERS + LETTERS / 2; *at += LETTERS, *out += LETTERS / 4 * 3) {
        __m256i bytes = _mm256_loadu_si256((const __m256i *)*at);
        __m256i upper = between(bytes, 'A', 'Z'), lower = between(bytes, 'a', 'z'), digit = between(bytes, '0', '9');
        __m256i plus = between(bytes, '+', '+'), slash = between(bytes, '/', '/');
        __m256i ends = _mm256_or_si256(plus, slash);
        __m256i known = _mm256_or_si256(_mm256_or_si256(upper, lower), _mm256_or_si256(digit, ends));
        if (_mm256_movemask_epi8(known) != -1)
            return;
        __m256i shift = _mm256_or_si256(where(upper, -'A'), where(lower, 26 - 'a'));
        shift = _mm256_or_si256(shift, where(digit, 52 - '0'));
        shift = _mm256_or_si256(shift, _mm256_or_si256(where(plus, 62 - '+'), where(slash, 63 - '/')));
        __m256i values = _mm256_add_epi8(bytes, shift);
        __m256i pairs = _mm256_maddubs_epi16(values, _mm256_set1_epi32(0x01400140)); /* first * 64 + second */
        __m256i groups = _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x00011000));    /* first * 4096 + second */
        groups = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(groups, order), together);
        _mm256_storeu_si256((__m256i *)*out, groups);
    }
}

static inline int decodes_many(void)
{
    return __builtin_cpu_supports("avx2");
}

#else

static void decode_many(const unsigned char **at, const unsigned char *end, char **out)
{
}

static inline int decodes_many(void)
{
    return 0;
}

#endif

/* The bytes that padded base64 stands for; NULL without an exception for what is none. */
static PyObject *decoded(const char *text, Py_ssize_t size)
{
    const unsigned char *at = (const unsigned char *)text;
    if (size % 4 != 0)
        return NULL;
    Py_ssize_t padding = size == 0 ? 0 : (at[size - 1] == '=') + (at[size - 1] == '=' && at[size - 2] == '=');
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, size / 4 * 3 - padding);
    if (bytes == NULL)
        return NULL;
    char *out = PyBytes_AS_STRING(bytes);
    const unsigned char *end = at + size - (padding ? 4 : 0);
    uint32_t odd = 0;
    if (decodes_many())
        decode_many(&at, end, &out);
    for (; at < end; at += 4) {
        uint32_t bits = letters[0][at[0]] | letters[1][at[1]] | letters[2][at[2]] | letters[3][at[3]];
        odd |= bits;
        *out++ = (char)(bits >> 16);
        *out++ = (char)(bits >> 8);
        *out++ = (char)bits;
    }
    if (padding) {
        uint32_t bits = letters[0][at[0]] | letters[1][at[1]] | (padding == 1 ? letters[2][at[2]] : 0);
        odd |= bits | (bits & (padding == 1 ? 0xffu : 0xffffu) ? NOT_A_LETTER : 0); /* bits that stand for nothing */
        *out++ = (char)(bits >> 16);
        if (padding == 1)
            *out++ = (char)(bits >> 8);
    }
    if (odd & NOT_A_LETTER)
        Py_CLEAR(bytes);
    return bytes;
}

#endif
