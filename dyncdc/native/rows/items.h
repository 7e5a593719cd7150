/* Items into rows: what is not plain goes to the reference path, value by value; what has no column goes to the spill. */

#ifndef DYNCDC_ITEMS_H
#define DYNCDC_ITEMS_H

#include "scalars.h"

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
    Writing writing = {&reader->spill, &reader->scratch, &reader->entries, 1, &bare_quote};
    if (rest_begin(reader, name, &entry) < 0)
        return -1;
    int put = put_value(cursor, &writing, MAX_NESTING);
    if (put == 1 && rest_end(reader, &entry) < 0)
        return -1;
    if (put < 1)
        reader->spill.used = entry.first;
    return put;
}

/* Take what the reference path says of a value: None, if the record as a whole is for it, or (cells, kept, outside). */
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

/* Take one value down the reference path. The cursor is before it. */
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
