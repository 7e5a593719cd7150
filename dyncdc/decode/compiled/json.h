/* Compact JSON, read strictly: what is not plainly right is refused, and goes to the exact path, which judges it.

   Readers answer 1 when they have read something, 0 when it is not plain, -1 with a Python exception set. They never
   read at or behind `end`. White space is not plain: neither DynamoDB's stream nor its exports have any. */

#ifndef DYNCDC_JSON_H
#define DYNCDC_JSON_H

#include "blocks.h"
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

/* Put bytes as they stand in a JSON text, escaped as orjson does it. Leaves room for a quote. */
static int put_escaped(Buffer *out, const char *data, Py_ssize_t size)
{
    const char *at = data, *end = data + size;
    if (buffer_reserve(out, 2 * size + ESCAPE_ROOM + 1) < 0)
        return -1;
    char *to = out->data + out->used;
    while (at < end) {
        const char *odd = skip_plain(at, end);
        memcpy(to, at, (size_t)(odd - at));
        to += odd - at;
        at = odd;
        for (; at < end && at - odd < 8; at++) { /* where one is, others are near */
            if ((unsigned char)*at < 0x20) { /* takes more than the two bytes that there is room for */
                out->used = to - out->data;
                if (buffer_reserve(out, 2 * (end - at) + ESCAPE_ROOM + 1) < 0)
                    return -1;
                to = write_control(out->data + out->used, (unsigned char)*at);
                continue;
            }
            if (*at == '"' || *at == '\\')
                *to++ = '\\';
            *to++ = *at;
        }
    }
    out->used = to - out->data;
    return 0;
}

/* Put bytes as a JSON text, quotes included. */
static int put_quoted(Buffer *out, const char *data, Py_ssize_t size)
{
    if (buffer_put_char(out, '"') < 0 || put_escaped(out, data, size) < 0)
        return -1;
    return buffer_put_char(out, '"');
}

/* How quotes are written: bare, or escaped where the JSON is itself inside of a JSON text. */
typedef struct {
    char text[3];
    Py_ssize_t size;
} Quote;

static const Quote bare_quote = {"\"", 1}, inner_quote = {"\\\"", 2};

/* Put what needs no escapes between quotes. */
static inline int put_between(Buffer *out, const Quote *quote, const char *data, Py_ssize_t size)
{
    if (buffer_reserve(out, size + 4) < 0)
        return -1;
    char *to = out->data + out->used;
    memcpy(to, quote->text, 2);
    to += quote->size;
    memcpy(to, data, (size_t)size);
    memcpy(to + size, quote->text, 2);
    out->used += size + 2 * quote->size;
    return 0;
}

/* Put a text as orjson would write it. `scratch` is used up to its end and left as it was. */
static int put_text(Buffer *out, const Quote *quote, const Text *text, Buffer *scratch)
{
    if (!text->escaped)
        return put_between(out, quote, text->data, text->size);
    Py_ssize_t before = scratch->used, start = out->used;
    int put = put_unescaped(scratch, text);
    if (put == 0)
        put = put_quoted(out, scratch->data + before, scratch->used - before);
    scratch->used = before;
    if (put == 0 && quote == &inner_quote) { /* once more, as the text inside of a text */
        put = buffer_put(scratch, out->data + start, out->used - start);
        out->used = start;
        if (put == 0)
            put = put_escaped(out, scratch->data + before, scratch->used - before);
        scratch->used = before;
    }
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
        int begins = *cursor->at == '{' || *cursor->at == '[';
        if (begins) {
            maps = maps << 1 | (*cursor->at == '{');
            open++;
            cursor->at++;
            begins = !read_char(cursor, maps & 1 ? '}' : ']');
            if (!begins) {
                maps >>= 1;
                open--;
            }
        } else if (!skip_scalar(cursor)) {
            return 0;
        }
        while (!begins) { /* a value has ended */
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
static int is_utf8(const char *data, Py_ssize_t size)
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
