/* Values into cells. What is not plain is refused, and its cell taken back by who asked for it. */

#ifndef DYNCDC_CELLS_H
#define DYNCDC_CELLS_H

#include "layout.h"

#define FLOAT64_DIGITS 17 /* as in cells.py */

typedef struct {
    PyObject_HEAD
    Table *tables;
    Py_ssize_t count;
    Buffer scratch, spill;
    Entries entries, rest;
    int busy;
    /* of this call */
    PyObject *odd, *exact;
    Py_ssize_t number; /* of the record that is being read */
} Reader;

/* Whether an integer's digits are not above a limit's. */
static int within(const char *digits, Py_ssize_t size, PyObject *limit)
{
    Py_ssize_t most = PyBytes_GET_SIZE(limit);
    return size < most || (size == most && memcmp(digits, PyBytes_AS_STRING(limit), (size_t)size) <= 0);
}

#define EXACT_DIGITS 15 /* so many digits come back as they were from the float nearest to them */

static const double powers[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};

/* As put_full, for a number of few digits that is 1 or more: a float's fraction is then a multiple of 2 to the -52.
   Answers 0 for any other. */
static int put_full_quickly(Buffer *out, const Number *number)
{
#ifdef __SIZEOF_INT128__
    const char *at = number->data + number->negative, *end = number->data + number->size;
    if (*at == '0' || number->whole + number->fraction > EXACT_DIGITS)
        return 0;
    uint64_t digits = 0, unit = 1;
    for (; at < end; at++)
        if (*at != '.')
            digits = digits * 10 + (uint64_t)(*at - '0');
    double value = (double)digits / powers[number->fraction], whole = (double)(uint64_t)value;
    int places = FLOAT64_DIGITS - (int)number->whole;
    for (int place = 0; place < places; place++)
        unit *= 10;
    const uint64_t half = UINT64_C(1) << 51;
    unsigned __int128 scaled = (unsigned __int128)(uint64_t)((value - whole) * 4503599627370496.0) * unit;
    uint64_t fraction = (uint64_t)(scaled >> 52), rest = (uint64_t)scaled & (2 * half - 1);
    fraction += rest > half || (rest == half && (fraction & 1));
    char text[2 + 2 * FLOAT64_DIGITS];
    Py_ssize_t before = number->negative + number->whole, size = before + 1 + places;
    if (fraction == 0 || fraction >= unit)
        return 0;
    memcpy(text, number->data, (size_t)before + 1);
    for (int place = places; place-- > 0; fraction /= 10)
        text[before + 1 + place] = (char)('0' + fraction % 10);
    while (text[size - 1] == '0')
        size--;
    return put_quoted(out, text, size) < 0 ? -1 : 1;
#else
    (void)out, (void)number;
    return 0;
#endif
}

/* Put the text of a float that every server reads as that float, as float_text in cells.py; 0 where it has an exponent. */
static int put_full(Buffer *out, double value)
{
    char *text = PyOS_double_to_string(value, 'g', FLOAT64_DIGITS, 0, NULL);
    if (text == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int put = strchr(text, 'e') == NULL ? (put_quoted(out, text, (Py_ssize_t)strlen(text)) < 0 ? -1 : 1) : 0;
    PyMem_Free(text);
    return put;
}

/* The cell of a number as Float64, if the shortest text of the float is the number again. */
static int put_float(Buffer *out, const Number *number)
{
    char text[MAX_NUMBER_LENGTH + 1];
    int few = number->whole + number->fraction <= EXACT_DIGITS;
    if (number->fraction == 0 && few)
        return put_number(out, &bare_quote, number) < 0 ? -1 : 1;
    int put = put_full_quickly(out, number);
    if (put != 0)
        return put;
    memcpy(text, number->data, (size_t)number->size);
    text[number->size] = '\0';
    double value = PyOS_string_to_double(text, NULL, NULL);
    if (value == -1.0 && PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    if (few)
        return put_full(out, value);
    char *shortest = PyOS_double_to_string(value, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
    if (shortest == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    Py_ssize_t size = (Py_ssize_t)strlen(shortest);
    int same = (size == number->size && memcmp(shortest, text, (size_t)size) == 0) ||
               (size == number->size + 2 && memcmp(shortest, text, (size_t)number->size) == 0 &&
                strcmp(shortest + number->size, ".0") == 0);
    PyMem_Free(shortest);
    return same ? put_full(out, value) : 0;
}

static int put_numeric(Buffer *out, const Field *field, Cursor *cursor)
{
    Number number;
    if (!read_number(cursor, &number))
        return 0;
    if (field->kind == K_FLOAT)
        return put_float(out, &number);
    const char *digits = number.data + number.negative;
    if (field->kind == K_INTEGER) {
        PyObject *limit = number.negative ? field->low : field->high;
        if (number.fraction || !within(digits, number.whole, limit))
            return 0;
    }
    if (field->kind == K_DECIMAL) {
        Py_ssize_t whole = *digits == '0' ? 0 : number.whole;
        if (whole > field->whole || number.fraction > field->fraction)
            return 0;
    }
    return put_number(out, &bare_quote, &number) < 0 ? -1 : 1;
}

static int put_checked(Buffer *out, const Field *field, Cursor *cursor)
{
    Text text;
    if (!read_text(cursor, &text) || text.escaped)
        return 0;
    PyObject *bytes = PyBytes_FromStringAndSize(text.data, text.size);
    PyObject *known = bytes == NULL ? NULL : PyObject_CallOneArg(field->check, bytes);
    Py_XDECREF(bytes);
    if (known == NULL)
        return -1;
    int right = PyObject_IsTrue(known);
    Py_DECREF(known);
    if (right < 1)
        return right;
    return put_between(out, &bare_quote, text.data, text.size) < 0 ? -1 : 1;
}

static int put_binary(Reader *reader, Buffer *out, const Field *field, Cursor *cursor)
{
    Text text;
    if (!read_text(cursor, &text) || !is_base64(&text))
        return 0;
    if (field->kind == K_BASE64)
        return put_between(out, &bare_quote, text.data, text.size) < 0 ? -1 : 1;
    reader->scratch.used = 0;
    if (put_decoded(&reader->scratch, &text) < 0)
        return -1;
    return put_quoted(out, reader->scratch.data, reader->scratch.used) < 0 ? -1 : 1;
}

/* A document as the text of a cell. The cursor is before the value. */
static int put_document(Reader *reader, Buffer *out, Cursor *cursor, int typed)
{
    reader->scratch.used = reader->entries.used = 0;
    Writing writing = {out, &reader->scratch, &reader->entries, typed, &inner_quote};
    if (buffer_put_char(out, '"') < 0)
        return -1;
    int put = put_value(cursor, &writing, MAX_NESTING);
    if (put < 1)
        return put;
    return buffer_put_char(out, '"') < 0 ? -1 : 1;
}

static int put_payload_cell(Reader *reader, Buffer *out, const Field *field, Cursor *cursor)
{
    Text text;
    switch (field->kind) {
    case K_TEXT:
        if (!read_text(cursor, &text))
            return 0;
        return put_text(out, &bare_quote, &text, &reader->scratch) < 0 ? -1 : 1;
    case K_CHECKED:
        return put_checked(out, field, cursor);
    case K_INTEGER:
    case K_DECIMAL:
    case K_FLOAT:
    case K_NUMBER:
        return put_numeric(out, field, cursor);
    case K_BOOL:
        if (READ_WORD(cursor, "true"))
            return buffer_put(out, "true", 4) < 0 ? -1 : 1;
        return READ_WORD(cursor, "false") ? (buffer_put(out, "false", 5) < 0 ? -1 : 1) : 0;
    case K_BASE64:
    case K_RAW:
        return put_binary(reader, out, field, cursor);
    case K_TEXT_SET:
        return put_text_set(cursor, out, &bare_quote);
    default:
        return 0;
    }
}

/* Put a value's cell. `keep`: the spill must tell the value as well. */
static int put_field(Reader *reader, Table *table, const Field *field, Cursor *cursor, int *keep)
{
    const char *start = cursor->at;
    Buffer *out = &table->columns[field->column].cells;
    Py_ssize_t before = out->used;
    enum Tag tag = read_tag(cursor);
    *keep = 0;
    if (tag == T_NULL) { /* the cell is that of an absent value, which the row gets in the end */
        if (field->key || (!field->nullable && table->spill < 0))
            return 0;
        *keep = table->spill >= 0 && !(field->nullable && field->lossy);
        return READ_WORD(cursor, "true") && read_char(cursor, '}');
    }
    int put;
    if (field->kind == K_PLAIN || field->kind == K_TYPED) {
        if (!(field->takes & 1u << tag))
            return 0;
        cursor->at = start;
        put = put_document(reader, out, cursor, field->kind == K_TYPED);
    } else {
        if ((int)tag != field->tag)
            return 0;
        reader->scratch.used = 0;
        put = put_payload_cell(reader, out, field, cursor);
        if (put == 1)
            put = read_char(cursor, '}');
    }
    if (put < 1)
        return put;
    Py_ssize_t size = PyBytes_GET_SIZE(field->absent);
    /* A value that looks like an absent one is told apart by the spill alone. */
    *keep = !field->key && !field->lossy && table->spill >= 0 && out->used - before == size &&
            memcmp(out->data + before, PyBytes_AS_STRING(field->absent), (size_t)size) == 0;
    return end_cell(table, field->column) < 0 ? -1 : 1;
}

/* Put the parts of a map that have columns; not plain unless they tell all of it. */
static int put_parts(Reader *reader, Table *table, Field *field, Cursor *cursor)
{
    if (read_tag(cursor) != T_M || !read_char(cursor, '{') || (cursor->at < cursor->end && *cursor->at == '}'))
        return 0;
    do {
        Text name;
        int keep = 0;
        if (!read_text(cursor, &name) || name.escaped || !read_char(cursor, ':'))
            return 0;
        Field *part = find_field(&field->parts, &name);
        if (part == NULL || part->seen == table->row)
            return 0;
        part->seen = table->row;
        int put = put_field(reader, table, part, cursor, &keep);
        if (put < 1)
            return put;
        if (keep || table->columns[part->column].filled != table->row)
            return 0; /* a NULL, or what looks like nothing */
    } while (read_char(cursor, ','));
    return read_char(cursor, '}') && read_char(cursor, '}');
}

#endif
