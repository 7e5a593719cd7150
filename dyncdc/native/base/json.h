/* Compact JSON, read strictly: what is not plainly right is refused, and goes to the reference path, which judges it.

   Readers answer 1 when they have read something, 0 when it is not plain, -1 with a Python exception set. They never
   read at or behind `end`. White space is not plain: neither DynamoDB's stream nor its exports have any. */

#ifndef DYNCDC_JSON_H
#define DYNCDC_JSON_H

#include "scan16.h"
#include "buffer.h"

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
    for (; end - at >= BLOCK; at += BLOCK) {
        uint32_t found = block_odd(at);
        if (found)
            return at + first_bit(found);
    }
    while (at < end && *at != '"' && *at != '\\' && (unsigned char)*at >= 0x20)
        at++;
    return at;
}

/* The rest of a text whose first odd byte is at `at`. */
static NOT_INLINE int read_escaped(Cursor *cursor, Text *text, const char *at)
{
    const char *end = cursor->end;
    for (;;) {
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
        at = skip_plain(at, end);
    }
    text->size = at - text->data;
    cursor->at = at + 1;
    return 1;
}

static INLINE int read_text(Cursor *cursor, Text *text)
{
    const char *at = cursor->at, *end = cursor->end;
    if (at >= end || *at != '"')
        return 0;
    text->data = ++at;
    text->escaped = 0;
    at = skip_plain(at, end);
    if (at >= end || *at != '"')
        return read_escaped(cursor, text, at);
    text->size = at - text->data;
    cursor->at = at + 1;
    return 1;
}

static inline int text_is(const Text *text, const char *plain, Py_ssize_t size)
{
    return text->size == size && same_bytes(text->data, plain, size);
}

#define TEXT_IS(text, literal) text_is(text, literal, (Py_ssize_t)sizeof(literal) - 1)

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

/* Pass over a value that is no list and no map. */
static INLINE int skip_scalar(Cursor *cursor)
{
    Text text;
    switch (*cursor->at) {
    case '"':
        return read_text(cursor, &text);
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

/* Pass over any value with fewer than `levels` lists and maps around its innermost ones; 64 at most. */
static int skip_value(Cursor *cursor, int levels)
{
    uint64_t maps = 0; /* a bit for each that is open, innermost last: whether it is a map */
    Text name;
    int open = 0;
    for (;;) {
        if (cursor->at >= cursor->end || open >= levels)
            return 0;
        int entered = 0;
        if (*cursor->at == '{' || *cursor->at == '[') {
            int map = *cursor->at == '{';
            cursor->at++;
            entered = !read_char(cursor, map ? '}' : ']');
            if (entered) {
                maps = maps << 1 | (uint64_t)map;
                open++;
            }
        } else if (!skip_scalar(cursor)) {
            return 0;
        }
        while (!entered) { /* a value has ended */
            if (open == 0)
                return 1;
            if (read_char(cursor, ','))
                break;
            if (!read_char(cursor, maps & 1 ? '}' : ']'))
                return 0;
            maps >>= 1;
            open--;
        }
        if ((maps & 1) && !(read_text(cursor, &name) && read_char(cursor, ':')))
            return 0;
    }
}

/* Whether bytes are UTF-8. */
static inline int is_utf8(const char *data, Py_ssize_t size)
{
    const unsigned char *at = (const unsigned char *)data, *end = at + size;
    while (at < end) {
        if (end - at >= BLOCKS && blocks_are_ascii((const char *)at)) {
            at += BLOCKS;
            continue;
        }
        if (end - at >= BLOCK && block_is_ascii((const char *)at)) {
            at += BLOCK;
            continue;
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
