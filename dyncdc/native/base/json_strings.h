/* JSON texts, written: what a text stands for, escaped as orjson does it, also where the JSON is itself in a text. */

#ifndef DYNCDC_TEXTS_H
#define DYNCDC_TEXTS_H

#include "json.h"

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

#endif
