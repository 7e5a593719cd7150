/* Records into rows of their tables. A record that is not plain as a whole goes to the reference path. */

#ifndef DYNCDC_RECORDS_H
#define DYNCDC_RECORDS_H

#include "envelope.h"
#include "history.h"

/* The key that a record names apart: exactly the attributes of the table's key. */
static int read_keys(Table *table, Cursor cursor)
{
    Py_ssize_t found = 0;
    for (Py_ssize_t index = 0; index < table->fields.count; index++)
        table->fields.fields[index].keyed.data = NULL;
    if (!read_char(&cursor, '{'))
        return 0;
    do {
        Text name;
        if (!read_text(&cursor, &name) || !read_char(&cursor, ':'))
            return 0;
        Field *field = name.escaped ? NULL : find_field(&table->fields, &name);
        if (field == NULL || !field->key || field->keyed.data != NULL || !note_text(&cursor, &field->keyed))
            return 0;
        found++;
    } while (read_char(&cursor, ','));
    return found == table->keys;
}

static int read_tombstone(Reader *reader, Table *table)
{
    for (Py_ssize_t index = 0; index < table->fields.count; index++) {
        Field *field = &table->fields.fields[index];
        int keep;
        if (!field->key)
            continue;
        Cursor cursor = {field->keyed.data, field->keyed.data + field->keyed.size};
        int put = put_field(reader, table, field, &cursor, &keep);
        if (put < 1)
            return put;
    }
    return 1;
}

/* The row's key: the cells of the key columns, in the order of the key. */
static PyObject *key_of(Table *table, Buffer *scratch)
{
    scratch->used = 0;
    for (Py_ssize_t index = 0; index < table->fields.count; index++) {
        if (!table->fields.fields[index].key)
            continue;
        Column *column = &table->columns[table->fields.fields[index].column];
        if (buffer_put(scratch, column->cells.data + column->before, column->cells.used - column->before) < 0)
            return NULL;
    }
    return PyBytes_FromStringAndSize(scratch->data, scratch->used ? scratch->used - 1 : 0);
}

/* `change`: what the history needs of it, where there is one; NULL for a row of the reference path. */
static int row_end(Reader *reader, Table *table, PyObject *key, uint64_t time, PyObject *change)
{
    if (table->has_history && PyList_Append(table->changes, change != NULL ? change : Py_None) < 0) {
        Py_XDECREF(key);
        return -1;
    }
    if (append_new(table->key_cells, key) < 0 || append_new(table->times, PyLong_FromUnsignedLongLong(time)) < 0 ||
        append_new(table->numbers, PyLong_FromSsize_t(reader->number)) < 0)
        return -1;
    table->spilled += table->row_spilled;
    table->outside += table->row_outside;
    table->row++;
    return 1;
}

/* Read one item, or a tombstone where there is none, into cells of a row that has not ended. */
static int read_row(Reader *reader, Table *table, Cursor *item, int keyed)
{
    row_begin(table);
    reader->rest.used = reader->scratch.used = 0;
    reader->spill.used = 0;
    if (buffer_put_char(&reader->spill, '{') < 0)
        return -1;
    int put = item != NULL ? read_item(reader, table, item, keyed) : read_tombstone(reader, table);
    if (put == 1)
        put = finish_cells(reader, table, item == NULL);
    if (put == 0)
        row_take_back(table);
    return put;
}

static Table *find_table(Reader *reader, const Text *name)
{
    for (Py_ssize_t index = 0; index < reader->count; index++) {
        Table *table = &reader->tables[index];
        if (text_is(name, PyBytes_AS_STRING(table->name), PyBytes_GET_SIZE(table->name)))
            return table;
    }
    return NULL;
}

/* Count a record of a table that no one here knows. */
static int note_other(Reader *reader, const Text *name, PyObject *others)
{
    PyObject *key = PyUnicode_DecodeUTF8(name->data, name->size, NULL);
    if (key == NULL)
        return -1;
    PyObject *numbers = PyDict_GetItemWithError(others, key);
    int noted = numbers == NULL && PyErr_Occurred() ? -1 : 0;
    if (noted == 0 && numbers == NULL) {
        numbers = PyList_New(0);
        noted = numbers == NULL ? -1 : PyDict_SetItem(others, key, numbers);
        Py_XDECREF(numbers);
    }
    if (noted == 0)
        noted = append_new(numbers, PyLong_FromSsize_t(reader->number));
    Py_DECREF(key);
    return noted < 0 ? -1 : 1;
}

/* A change that is being read. */
typedef struct {
    Reader *reader;
    Table *table; /* that has cells of a row which has not ended */
} Taking;

static int is_put(const Change *change)
{
    return change->event.data != NULL && (TEXT_IS(&change->event, "INSERT") || TEXT_IS(&change->event, "MODIFY"));
}

/* Read a new image into a row where all that it takes is known by then, as it is in the records that there are. */
static int take_image(Change *change, Cursor *cursor)
{
    Taking *taking = change->taker;
    Table *table = change->table.data != NULL && is_put(change) ? find_table(taking->reader, &change->table) : NULL;
    if (table == NULL || change->keys.at == NULL || change->image.at != NULL)
        return note_span(cursor, &change->image);
    change->image.at = cursor->at;
    if (!read_keys(table, change->keys))
        return 0;
    int put = read_row(taking->reader, table, cursor, 1);
    change->image.end = cursor->at;
    if (put == 1)
        taking->table = table;
    return put;
}

/* End the row, and what the history needs of it. */
static int end_change(Reader *reader, Table *table, const Change *change, uint64_t time)
{
    PyObject *told = NULL;
    if (table->has_history) {
        int put = change_told(reader, table, change, &told);
        if (put < 1)
            return put;
    }
    int ended = row_end(reader, table, key_of(table, &reader->scratch), time, told);
    Py_XDECREF(told);
    return ended;
}

/* Read what an envelope tells, its image apart. */
static int read_rest(Taking *taking, Change *change, PyObject *others)
{
    int removed = TEXT_IS(&change->event, "REMOVE");
    if (!removed && !is_put(change))
        return 0;
    Reader *reader = taking->reader;
    Table *table = find_table(reader, &change->table);
    if (table == NULL)
        return note_other(reader, &change->table, others);
    uint64_t time = time_of(change);
    if (time == 0 || (removed && table->ignores_deletes) || (!removed && change->image.at == NULL))
        return 0;
    if (removed && has_identity(change)) {
        if (table->keeps_expired || (table->has_history && !is_ttl(change))) /* who it was is for the reference path to say */
            return 0;
    }
    if (taking->table == NULL) {
        if (!read_keys(table, change->keys))
            return 0;
        Cursor image = change->image;
        int put = read_row(reader, table, removed ? NULL : &image, 1);
        if (put < 1)
            return put;
        taking->table = table;
    }
    return end_change(reader, table, change, time);
}

static int read_record(Reader *reader, Cursor *cursor, PyObject *others)
{
    Taking taking = {reader, NULL};
    Change change = {.take = take_image, .taker = &taking};
    if (!is_utf8(cursor->at, cursor->end - cursor->at))
        return 0;
    int read = read_change(cursor, &change);
    if (read == 1)
        read = read_rest(&taking, &change, others);
    if (read == 0 && taking.table != NULL)
        row_take_back(taking.table);
    return read;
}

static int read_line(Reader *reader, Cursor *cursor, uint64_t time)
{
    if (reader->count != 1 || !is_utf8(cursor->at, cursor->end - cursor->at) || !READ_WORD(cursor, "{\"Item\":"))
        return 0;
    Table *table = &reader->tables[0];
    Change item = {.image = {cursor->at, cursor->end}};
    int put = read_row(reader, table, cursor, 0);
    if (put < 1)
        return put;
    item.image.end = cursor->at;
    put = read_char(cursor, '}') && cursor->at == cursor->end ? end_change(reader, table, &item, time) : 0;
    if (put == 0)
        row_take_back(table);
    return put;
}

/* Have the reference path judge a record: None, if it has no row, or (table, cells, key, microseconds). */
static int take_exact(Reader *reader)
{
    PyObject *told = PyObject_CallFunction(reader->exact, "n", reader->number), *cells, *key;
    Py_ssize_t index;
    unsigned long long time;
    if (told == NULL || told == Py_None) {
        Py_XDECREF(told);
        return told == NULL ? -1 : 1;
    }
    int taken = PyArg_ParseTuple(told, "nO!SK", &index, &PyList_Type, &cells, &key, &time) ? 1 : -1;
    if (taken == 1 && (index < 0 || index >= reader->count || PyList_GET_SIZE(cells) != reader->tables[index].width)) {
        PyErr_SetString(PyExc_ValueError, "the exact path's row is of another table");
        taken = -1;
    }
    if (taken == 1) {
        Table *table = &reader->tables[index];
        row_begin(table);
        for (Py_ssize_t column = 0; taken == 1 && column < table->width; column++) {
            PyObject *cell = PyList_GET_ITEM(cells, column);
            if (!PyBytes_Check(cell))
                PyErr_SetString(PyExc_TypeError, "a cell is not bytes");
            taken = PyBytes_Check(cell) && put_cell(table, column, cell) == 0 ? 1 : -1;
        }
        if (taken == 1)
            taken = row_end(reader, table, Py_NewRef(key), time, NULL);
    }
    Py_DECREF(told);
    return taken;
}

#endif
