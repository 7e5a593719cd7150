/* DynamoDB's typed values: their tags, and those scalars that stand in their canonical form, or close to it. */

#ifndef DYNCDC_VALUES_H
#define DYNCDC_VALUES_H

#include "../base/json_strings.h"

enum Tag { T_NONE, T_S, T_N, T_B, T_M, T_L, T_SS, T_NS, T_BS, T_BOOL, T_NULL, TAGS };

typedef struct {
    const char *text;
    Py_ssize_t size;
} Opening;

#define OPENING(quoted) {"{" quoted ":", (Py_ssize_t)sizeof("{" quoted ":") - 1}
#define OPENINGS(quote)                                                                                                \
    {{"", 0},                                                                                                          \
     OPENING(quote "S" quote),                                                                                         \
     OPENING(quote "N" quote),                                                                                         \
     OPENING(quote "B" quote),                                                                                         \
     OPENING(quote "M" quote),                                                                                         \
     OPENING(quote "L" quote),                                                                                         \
     OPENING(quote "SS" quote),                                                                                        \
     OPENING(quote "NS" quote),                                                                                        \
     OPENING(quote "BS" quote),                                                                                        \
     OPENING(quote "BOOL" quote),                                                                                      \
     OPENING(quote "NULL" quote)}

/* How values of each tag begin: with bare quotes, and inside of a text. */
static const Opening bare_openings[TAGS] = OPENINGS("\""), inner_openings[TAGS] = OPENINGS("\\\"");

#define MAX_NUMBER_LENGTH 38 /* of a text that certainly has no more digits than DynamoDB allows */

/* A number without the zeros behind the last digit of its fraction: its canonical text. */
typedef struct {
    const char *data;
    Py_ssize_t size;
    Py_ssize_t whole, fraction; /* digits before and behind the point */
    int negative;
} Number;

/* Read `{"TAG":`. The payload and a brace follow. */
static enum Tag read_tag(Cursor *cursor)
{
    const char *at = cursor->at;
    if (cursor->end - at < 8 || at[0] != '{' || at[1] != '"')
        return T_NONE;
    enum Tag tag = T_NONE;
    if (at[3] == '"' && at[4] == ':') {
        tag = at[2] == 'S' ? T_S : at[2] == 'N' ? T_N : at[2] == 'M' ? T_M : at[2] == 'L' ? T_L : at[2] == 'B' ? T_B : T_NONE;
        cursor->at += tag ? 5 : 0;
    } else if (at[3] == 'S' && at[4] == '"' && at[5] == ':') {
        tag = at[2] == 'S' ? T_SS : at[2] == 'N' ? T_NS : at[2] == 'B' ? T_BS : T_NONE;
        cursor->at += tag ? 6 : 0;
    } else if (READ_WORD(cursor, "{\"BOOL\":")) {
        tag = T_BOOL;
    } else if (READ_WORD(cursor, "{\"NULL\":")) {
        tag = T_NULL;
    }
    return tag;
}

static int number_of(const Text *text, Number *number)
{
    if (text->escaped || text->size < 1 || text->size > MAX_NUMBER_LENGTH)
        return 0;
    const char *at = text->data, *end = at + text->size;
    number->data = at;
    number->negative = *at == '-';
    at += number->negative;
    const char *whole = at;
    while (at < end && is_digit(*at))
        at++;
    number->whole = at - whole;
    number->fraction = 0;
    if (number->whole == 0 || (number->whole > 1 && *whole == '0'))
        return 0;
    if (at < end) {
        const char *fraction = ++at;
        if (fraction[-1] != '.')
            return 0;
        while (at < end && is_digit(*at))
            at++;
        if (at != end || at == fraction)
            return 0;
        while (end > fraction && end[-1] == '0')
            end--;
        number->fraction = end - fraction;
        if (number->fraction == 0)
            end = fraction - 1;
    }
    number->size = end - number->data;
    return !(number->negative && *whole == '0' && number->fraction == 0); /* -0 */
}

static int read_number(Cursor *cursor, Number *number)
{
    Text text;
    return read_text(cursor, &text) && number_of(&text, number);
}

static int put_number(Buffer *out, const Quote *quote, const Number *number)
{
    return put_between(out, quote, number->data, number->size);
}

/* The values of base64's dead letters, 64 for anything else. */
static unsigned char base64_values[256];

static void base64_prepare(void)
{
    const char *letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    memset(base64_values, 64, sizeof base64_values);
    for (int value = 0; value < 64; value++)
        base64_values[(unsigned char)letters[value]] = (unsigned char)value;
}

/* Whether a text is canonical base64: padded, and the bits that stand for nothing are zero. */
static int is_base64(const Text *text)
{
    if (text->escaped || text->size % 4 != 0)
        return 0;
    Py_ssize_t letters = text->size;
    while (letters > text->size - 2 && letters > 0 && text->data[letters - 1] == '=')
        letters--;
    unsigned char odd = 0;
    for (Py_ssize_t place = 0; place < letters; place++)
        odd |= base64_values[(unsigned char)text->data[place]];
    if (odd & 64)
        return 0;
    Py_ssize_t padding = text->size - letters;
    unsigned char last = letters ? base64_values[(unsigned char)text->data[letters - 1]] : 0;
    return padding == 0 || (last & (padding == 2 ? 15 : 3)) == 0;
}

/* Put the bytes that canonical base64 stands for. */
static int put_decoded(Buffer *out, const Text *text)
{
    if (buffer_reserve(out, text->size / 4 * 3) < 0)
        return -1;
    const unsigned char *at = (const unsigned char *)text->data, *end = at + text->size;
    for (; at < end; at += 4) {
        uint32_t bits = (uint32_t)base64_values[at[0]] << 18 | (uint32_t)base64_values[at[1]] << 12 |
                        (uint32_t)(base64_values[at[2]] & 63) << 6 | (uint32_t)(base64_values[at[3]] & 63);
        out->data[out->used++] = (char)(bits >> 16);
        if (at[2] != '=')
            out->data[out->used++] = (char)(bits >> 8);
        if (at[3] != '=')
            out->data[out->used++] = (char)bits;
    }
    return 0;
}

#define MAX_MEMBERS 256 /* of a set that is sorted here */

static int text_order(const Text *one, const Text *other)
{
    Py_ssize_t shorter = one->size < other->size ? one->size : other->size;
    int order = memcmp(one->data, other->data, (size_t)shorter);
    return order ? order : (one->size > other->size) - (one->size < other->size);
}

/* Put the members of a set of texts as a JSON array, sorted, none of them twice. Answers how many, or as readers do. */
static int put_text_set(Cursor *cursor, Buffer *out, const Quote *quote)
{
    Text members[MAX_MEMBERS];
    int count = 0;
    if (!read_char(cursor, '['))
        return 0;
    if (!read_char(cursor, ']')) {
        do {
            Text member;
            if (count == MAX_MEMBERS || !read_text(cursor, &member) || member.escaped)
                return 0;
            int place = count;
            while (place > 0 && text_order(&members[place - 1], &member) > 0)
                place--;
            if (place > 0 && text_order(&members[place - 1], &member) == 0)
                continue;
            memmove(&members[place + 1], &members[place], (size_t)(count - place) * sizeof member);
            members[place] = member;
            count++;
        } while (read_char(cursor, ','));
        if (!read_char(cursor, ']'))
            return 0;
    }
    if (buffer_put_char(out, '[') < 0)
        return -1;
    for (int place = 0; place < count; place++) {
        if (place && buffer_put_char(out, ',') < 0)
            return -1;
        if (put_between(out, quote, members[place].data, members[place].size) < 0)
            return -1;
    }
    return buffer_put_char(out, ']') < 0 ? -1 : 1;
}

#endif
