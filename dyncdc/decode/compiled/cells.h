/* Values into cells, and items into rows: what is not plain goes to the exact path, value by value. */

#ifndef DYNCDC_CELLS_H
#define DYNCDC_CELLS_H

#include "tables.h"

typedef struct {
    PyObject_HEAD
    Table *tables;
    Py_ssize_t count;
    Buffer scratch, text, spill;
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

/* The cell of a number as Float64: the shortest text of the float, if that is the number again. */
static int put_float(Buffer *out, const Number *number)
{
    char text[MAX_NUMBER_LENGTH + 1];
    Py_ssize_t digits = number->whole + number->fraction;
    const char *whole = number->data + number->negative;
    if (number->size == 1 && *whole == '0')
        return put_number(out, number) < 0 ? -1 : 1;
    /* Up to 15 digits come back as they were, unless so small that an exponent would be written. */
    int tiny = *whole == '0' && number->fraction > 4 && memcmp(whole, "0.0000", 6) == 0;
    if (number->fraction && digits <= 15 && !tiny)
        return put_number(out, number) < 0 ? -1 : 1;
    memcpy(text, number->data, (size_t)number->size);
    text[number->size] = '\0';
    double value = PyOS_string_to_double(text, NULL, NULL);
    if (value == -1.0 && PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    char *shortest = PyOS_double_to_string(value, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
    if (shortest == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    Py_ssize_t size = (Py_ssize_t)strlen(shortest);
    int same = (size == number->size && memcmp(shortest, text, (size_t)size) == 0) ||
               (size == number->size + 2 && memcmp(shortest, text, (size_t)number->size) == 0 &&
                strcmp(shortest + number->size, ".0") == 0);
    int put = same ? (put_quoted(out, shortest, size) < 0 ? -1 : 1) : 0;
    PyMem_Free(shortest);
    return put;
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
    return put_number(out, &number) < 0 ? -1 : 1;
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
    return put_text(out, &text, NULL) < 0 ? -1 : 1;
}

static int put_binary(Reader *reader, Buffer *out, const Field *field, Cursor *cursor)
{
    Text text;
    if (!read_text(cursor, &text) || !is_base64(&text))
        return 0;
    if (field->kind == K_BASE64)
        return put_text(out, &text, NULL) < 0 ? -1 : 1;
    reader->scratch.used = 0;
    if (put_decoded(&reader->scratch, &text) < 0)
        return -1;
    return put_quoted(out, reader->scratch.data, reader->scratch.used) < 0 ? -1 : 1;
}

/* A document as the text of a cell. The cursor is before the value. */
static int put_document(Reader *reader, Buffer *out, Cursor *cursor, int typed)
{
    reader->text.used = reader->scratch.used = reader->entries.used = 0;
    Writing writing = {&reader->text, &reader->scratch, &reader->entries, typed};
    int put = put_value(cursor, &writing, MAX_NESTING);
    if (put < 1)
        return put;
    return put_quoted(out, reader->text.data, reader->text.used) < 0 ? -1 : 1;
}

static int put_payload_cell(Reader *reader, Buffer *out, const Field *field, Cursor *cursor)
{
    Text text;
    switch (field->kind) {
    case K_TEXT:
        if (!read_text(cursor, &text))
            return 0;
        return put_text(out, &text, &reader->scratch) < 0 ? -1 : 1;
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
        return put_text_set(cursor, out);
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

/* Begin an entry of the spill; its value is to follow. */
static int rest_begin(Reader *reader, const Text *name, Entry *entry)
{
    *entry = (Entry){.name = *name, .first = reader->spill.used};
    return put_quoted(&reader->spill, name->data, name->size) < 0 ? -1 : buffer_put_char(&reader->spill, ':');
}

static int rest_end(Reader *reader, Entry *entry)
{
    if (buffer_put_char(&reader->spill, ',') < 0)
        return -1;
    entry->behind = reader->spill.used;
    return entries_put(&reader->rest, *entry);
}

/* Let the spill tell a value, in its canonical form. */
static int keep_value(Reader *reader, const Text *name, Cursor *cursor)
{
    Entry entry;
    reader->scratch.used = reader->entries.used = 0;
    Writing writing = {&reader->spill, &reader->scratch, &reader->entries, 1};
    if (rest_begin(reader, name, &entry) < 0)
        return -1;
    int put = put_value(cursor, &writing, MAX_NESTING);
    if (put == 1 && rest_end(reader, &entry) < 0)
        return -1;
    if (put < 1)
        reader->spill.used = entry.first;
    return put;
}

/* Take what the exact path says of a value: None, if the record as a whole is for it, or (cells, kept, outside). */
static int take_odd(Reader *reader, Table *table, const Text *name, int mapped, PyObject *told)
{
    PyObject *cells, *kept;
    Py_ssize_t outside;
    if (told == Py_None)
        return 0;
    if (!PyArg_ParseTuple(told, "O!On", &PyList_Type, &cells, &kept, &outside))
        return -1;
    for (Py_ssize_t index = 0; index < PyList_GET_SIZE(cells); index++) {
        Py_ssize_t column;
        PyObject *cell;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(cells, index), "nS", &column, &cell))
            return -1;
        if (column < 0 || column >= table->width) {
            PyErr_SetString(PyExc_IndexError, "there is no such column");
            return -1;
        }
        if (put_cell(table, column, cell) < 0)
            return -1;
    }
    table->row_outside += outside;
    if (kept == Py_None && mapped)
        return 1;
    Entry entry;
    if (rest_begin(reader, name, &entry) < 0)
        return -1;
    if (PyBytes_Check(kept) && buffer_put_bytes(&reader->spill, kept) < 0)
        return -1;
    return rest_end(reader, &entry) < 0 ? -1 : 1;
}

/* Take one value down the exact path. The cursor is before it. */
static int put_odd(Reader *reader, Table *table, const Text *name, int mapped, Cursor *cursor)
{
    const char *start = cursor->at;
    if (!skip_value(cursor, MAX_NESTING))
        return 0;
    PyObject *told = PyObject_CallFunction(reader->odd, "nns#y#", (Py_ssize_t)(table - reader->tables), reader->number,
                                           name->data, name->size, start, (Py_ssize_t)(cursor->at - start));
    if (told == NULL)
        return -1;
    int put = take_odd(reader, table, name, mapped, told);
    Py_DECREF(told);
    return put;
}

static int read_mapped(Reader *reader, Table *table, Field *field, const Text *name, Cursor *cursor)
{
    const char *start = cursor->at;
    int keep = 0, put = 0;
    if (field->kind == K_PARTS)
        put = put_parts(reader, table, field, cursor);
    else if (field->kind != K_ODD)
        put = put_field(reader, table, field, cursor, &keep);
    if (put == 1 && !keep)
        return 1;
    if (put < 0)
        return -1;
    cursor->at = start;
    if (put == 1) {
        put = keep_value(reader, name, cursor);
        if (put)
            return put;
        cursor->at = start;
    }
    if (field->column >= 0)
        take_back(table, field->column);
    for (Py_ssize_t part = 0; part < field->parts.count; part++)
        take_back(table, field->parts.fields[part].column);
    return put_odd(reader, table, name, 1, cursor);
}

static int read_unmapped(Reader *reader, Table *table, const Text *name, Cursor *cursor)
{
    const char *start = cursor->at;
    if (!table->open) {
        int put = keep_value(reader, name, cursor);
        if (put == 1)
            table->row_outside += table->spill < 0;
        if (put)
            return put;
        cursor->at = start;
    }
    return put_odd(reader, table, name, 0, cursor);
}

/* Read an item into the row. `keyed`: the record names its key apart. */
static int read_item(Reader *reader, Table *table, Cursor *cursor, int keyed)
{
    Py_ssize_t keys = 0;
    if (!read_char(cursor, '{'))
        return 0;
    if (read_char(cursor, '}'))
        return 0;
    do {
        Text name;
        int put, keep;
        if (!read_text(cursor, &name) || name.escaped || !read_char(cursor, ':'))
            return 0;
        Field *field = find_field(&table->fields, &name);
        if (field == NULL) {
            put = read_unmapped(reader, table, &name, cursor);
        } else if (field->seen == table->row) {
            return 0;
        } else if (field->key) {
            const char *start = cursor->at;
            put = put_field(reader, table, field, cursor, &keep);
            if (put == 1 && keyed && !text_is(&field->keyed, start, cursor->at - start))
                return 0;
            keys++;
        } else {
            put = read_mapped(reader, table, field, &name, cursor);
        }
        if (put < 1)
            return put;
        if (field != NULL)
            field->seen = table->row;
    } while (read_char(cursor, ','));
    return read_char(cursor, '}') && keys == table->keys;
}

/* Give the row a cell in every column that has none, the spill's and the mark of a tombstone among them. */
static int finish_cells(Reader *reader, Table *table, int deleted)
{
    Py_ssize_t kept = reader->rest.used;
    if (kept) {
        int put = put_sorted(&reader->spill, &reader->scratch, reader->rest.items, kept);
        if (put < 1)
            return put;
        if (table->spill >= 0) {
            reader->spill.data[reader->spill.used - 1] = '}';
            if (put_quoted(&table->columns[table->spill].cells, reader->spill.data, reader->spill.used) < 0)
                return -1;
            if (end_cell(table, table->spill) < 0)
                return -1;
            table->row_spilled = kept;
        }
    }
    if (table->deleted >= 0) {
        if (buffer_put(&table->columns[table->deleted].cells, deleted ? "1" : "0", 1) < 0)
            return -1;
        if (end_cell(table, table->deleted) < 0)
            return -1;
    }
    for (Py_ssize_t column = 0; column < table->width; column++)
        if (table->columns[column].filled != table->row) {
            if (buffer_put_bytes(&table->columns[column].cells, PyTuple_GET_ITEM(table->absents, column)) < 0)
                return -1;
            if (end_cell(table, column) < 0)
                return -1;
        }
    return 1;
}

#endif
