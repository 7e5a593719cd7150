/* Compact JSON, read strictly: what is not plainly right is refused, and goes to the exact path, which judges it.

   Readers answer 1 when they have read something, 0 when it is not plain, -1 with a Python exception set. They never
   read at or behind `end`. White space is not plain: neither DynamoDB's stream nor its exports have any. */

#ifndef DYNCDC_JSON_H
#define DYNCDC_JSON_H

#include "buffer.h"
#include <stdint.h>

#define MAX_NESTING 40 /* fewer levels than any of the other readers allows */

typedef struct {
    const char *at, *end;
} Cursor;

/* What stands between quotes, with its escapes. Those were checked: nothing that is a Text has a bad one. */
typedef struct {
    const char *data;
    Py_ssize_t size;
    int escaped;
} Text;

static inline int read_char(Cursor *cursor, char wanted)
{
    if (cursor->at >= cursor->end || *cursor->at != wanted)
        return 0;
    cursor->at++;
    return 1;
}

static inline int read_word(Cursor *cursor, const char *word, Py_ssize_t size)
{
    if (cursor->end - cursor->at < size || memcmp(cursor->at, word, (size_t)size) != 0)
        return 0;
    cursor->at += size;
    return 1;
}

#define READ_WORD(cursor, literal) read_word(cursor, literal, (Py_ssize_t)sizeof(literal) - 1)

static inline int is_digit(char one)
{
    return one >= '0' && one <= '9';
}

static int hex_digit(char one)
{
    if (is_digit(one))
        return one - '0';
    one |= 0x20;
    return one >= 'a' && one <= 'f' ? one - 'a' + 10 : -1;
}

/* The four hexadecimal digits at `at`, or -1. */
static int32_t hex_unit(const char *at, const char *end)
{
    int32_t unit = 0;
    if (end - at < 4)
        return -1;
    for (int place = 0; place < 4; place++) {
        int digit = hex_digit(at[place]);
        if (digit < 0)
            return -1;
        unit = unit << 4 | digit;
    }
    return unit;
}

/* The code point that the escape at `at`, a backslash and a u, stands for, and where it ends; -1 for half a pair. */
static int32_t code_point(const char *at, const char *end, const char **behind)
{
    int32_t unit = hex_unit(at + 2, end);
    *behind = at + 6;
    if (unit < 0xd800 || unit > 0xdfff)
        return unit;
    if (unit > 0xdbff || end - at < 12 || at[6] != '\\' || at[7] != 'u')
        return -1;
    int32_t low = hex_unit(at + 8, end);
    *behind = at + 12;
    return low < 0xdc00 || low > 0xdfff ? -1 : 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
}

/* Where the first quote, backslash or control character is; `end` if there is none. */
static inline const char *skip_plain(const char *at, const char *end)
{
    const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
    while (end - at >= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        uint64_t quote = word ^ (ones * '"'), slash = word ^ (ones * '\\');
        uint64_t found = (((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((word - ones * 0x20) & ~word)) & highs;
        if (found) /* one of the eight, or a byte behind one of them: the loop below tells */
            break;
        at += 8;
    }
    while (at < end && *at != '"' && *at != '\\' && (unsigned char)*at >= 0x20)
        at++;
    return at;
}

static int read_text(Cursor *cursor, Text *text)
{
    if (!read_char(cursor, '"'))
        return 0;
    const char *at = cursor->at, *end = cursor->end;
    text->data = at;
    text->escaped = 0;
    for (;;) {
        at = skip_plain(at, end);
        if (at >= end)
            return 0;
        if (*at == '"')
            break;
        if (*at != '\\' || end - at < 2)
            return 0;
        text->escaped = 1;
        if (at[1] == 'u') {
            if (code_point(at, end, &at) < 0)
                return 0;
        } else if (at[1] != '\0' && strchr("\"\\/bfnrt", at[1]) != NULL) {
            at += 2;
        } else {
            return 0;
        }
    }
    text->size = at - text->data;
    cursor->at = at + 1;
    return 1;
}

static inline int text_is(const Text *text, const char *plain, Py_ssize_t size)
{
    return text->size == size && memcmp(text->data, plain, (size_t)size) == 0;
}

#define TEXT_IS(text, literal) text_is(text, literal, (Py_ssize_t)sizeof(literal) - 1)

static int put_code_point(Buffer *out, int32_t point)
{
    char bytes[4];
    if (point < 0x80) {
        bytes[0] = (char)point;
        return buffer_put(out, bytes, 1);
    }
    if (point < 0x800) {
        bytes[0] = (char)(0xc0 | point >> 6);
        bytes[1] = (char)(0x80 | (point & 0x3f));
        return buffer_put(out, bytes, 2);
    }
    if (point < 0x10000) {
        bytes[0] = (char)(0xe0 | point >> 12);
        bytes[1] = (char)(0x80 | (point >> 6 & 0x3f));
        bytes[2] = (char)(0x80 | (point & 0x3f));
        return buffer_put(out, bytes, 3);
    }
    bytes[0] = (char)(0xf0 | point >> 18);
    bytes[1] = (char)(0x80 | (point >> 12 & 0x3f));
    bytes[2] = (char)(0x80 | (point >> 6 & 0x3f));
    bytes[3] = (char)(0x80 | (point & 0x3f));
    return buffer_put(out, bytes, 4);
}

/* Put what a text stands for. */
static int put_unescaped(Buffer *out, const Text *text)
{
    const char *at = text->data, *end = at + text->size;
    while (at < end) {
        const char *slash = memchr(at, '\\', (size_t)(end - at));
        if (slash == NULL)
            return buffer_put(out, at, end - at);
        if (buffer_put(out, at, slash - at) < 0)
            return -1;
        if (slash[1] == 'u') {
            if (put_code_point(out, code_point(slash, end, &at)) < 0)
                return -1;
            continue;
        }
        const char *from = "bfnrt", *found = strchr(from, slash[1]);
        if (buffer_put_char(out, found != NULL ? "\b\f\n\r\t"[found - from] : slash[1]) < 0)
            return -1;
        at = slash + 2;
    }
    return 0;
}

#define ESCAPE_ROOM 6 /* bytes of the longest escape */

/* Write one control character's escape; answers where it ends. */
static char *write_control(char *to, unsigned char one)
{
    static const char hex[] = "0123456789abcdef";
    const char *from = "\b\f\n\r\t", *found = one ? strchr(from, one) : NULL;
    *to++ = '\\';
    if (found != NULL) {
        *to++ = "bfnrt"[found - from];
        return to;
    }
    memcpy(to, "u00", 3);
    to[3] = hex[one >> 4];
    to[4] = hex[one & 15];
    return to + 5;
}

/* Put bytes as a JSON text, quotes included, escaped as orjson does it. */
static int put_quoted(Buffer *out, const char *data, Py_ssize_t size)
{
    const char *at = data, *end = data + size;
    if (buffer_reserve(out, 2 * size + ESCAPE_ROOM + 2) < 0)
        return -1;
    char *to = out->data + out->used;
    *to++ = '"';
    while (at < end) {
        const char *odd = skip_plain(at, end);
        memcpy(to, at, (size_t)(odd - at));
        to += odd - at;
        at = odd;
        for (; at < end && at - odd < 8; at++) { /* where one is, others are near */
            if ((unsigned char)*at < 0x20) { /* takes more than the two bytes that there is room for */
                out->used = to - out->data;
                if (buffer_reserve(out, 2 * (end - at) + ESCAPE_ROOM + 2) < 0)
                    return -1;
                to = write_control(out->data + out->used, (unsigned char)*at);
                continue;
            }
            if (*at == '"' || *at == '\\')
                *to++ = '\\';
            *to++ = *at;
        }
    }
    *to++ = '"';
    out->used = to - out->data;
    return 0;
}

/* Put a text as orjson would write it. `scratch` is used up to its end and left as it was. */
static int put_text(Buffer *out, const Text *text, Buffer *scratch)
{
    if (!text->escaped) {
        if (buffer_reserve(out, text->size + 2) < 0)
            return -1;
        char *to = out->data + out->used;
        *to++ = '"';
        memcpy(to, text->data, (size_t)text->size);
        to[text->size] = '"';
        out->used += text->size + 2;
        return 0;
    }
    Py_ssize_t before = scratch->used;
    int put = put_unescaped(scratch, text);
    if (put == 0)
        put = put_quoted(out, scratch->data + before, scratch->used - before);
    scratch->used = before;
    return put;
}

static int skip_number(Cursor *cursor)
{
    read_char(cursor, '-');
    const char *first = cursor->at;
    while (cursor->at < cursor->end && is_digit(*cursor->at))
        cursor->at++;
    Py_ssize_t digits = cursor->at - first;
    if (digits == 0 || (digits > 1 && *first == '0'))
        return 0;
    /* Fractions and exponents are JSON as well, but no number of DynamoDB's is written so. */
    return cursor->at >= cursor->end || strchr(".eE", *cursor->at) == NULL || *cursor->at == '\0';
}

/* Pass over any value. */
static int skip_value(Cursor *cursor, int levels)
{
    Text text;
    if (cursor->at >= cursor->end || levels <= 0)
        return 0;
    switch (*cursor->at) {
    case '"':
        return read_text(cursor, &text);
    case '{':
    case '[': {
        char closing = *cursor->at == '{' ? '}' : ']';
        cursor->at++;
        if (read_char(cursor, closing))
            return 1;
        do {
            if (closing == '}' && !(read_text(cursor, &text) && read_char(cursor, ':')))
                return 0;
            if (!skip_value(cursor, levels - 1))
                return 0;
        } while (read_char(cursor, ','));
        return read_char(cursor, closing);
    }
    case 't':
        return READ_WORD(cursor, "true");
    case 'f':
        return READ_WORD(cursor, "false");
    case 'n':
        return READ_WORD(cursor, "null");
    default:
        return skip_number(cursor);
    }
}

/* Whether bytes are UTF-8. */
static int is_utf8(const char *data, Py_ssize_t size)
{
    const unsigned char *at = (const unsigned char *)data, *end = at + size;
    while (at < end) {
        if (end - at >= 8) {
            uint64_t word;
            memcpy(&word, at, 8);
            if (!(word & 0x8080808080808080u)) {
                at += 8;
                continue;
            }
        }
        unsigned char one = *at++;
        if (one < 0x80)
            continue;
        int more = one >= 0xf0 ? 3 : one >= 0xe0 ? 2 : 1;
        if (one < 0xc2 || one > 0xf4 || end - at < more)
            return 0;
        if ((one == 0xe0 && *at < 0xa0) || (one == 0xed && *at > 0x9f) || (one == 0xf0 && *at < 0x90) ||
            (one == 0xf4 && *at > 0x8f))
            return 0;
        for (; more > 0; more--, at++)
            if ((*at & 0xc0) != 0x80)
                return 0;
    }
    return 1;
}

#endif
