/* What a history needs of a change: the parts that only its bytes tell. history.py makes a row of them. */

#ifndef DYNCDC_HISTORY_H
#define DYNCDC_HISTORY_H

#include "envelope.h"
#include "items.h"

/* Have the reference path make the cell of an image: bytes, or None for what is none. */
static int odd_image(Reader *reader, Table *table, Cursor image, PyObject **cell)
{
    PyObject *told = PyObject_CallFunction(reader->odd, "nnOy#", (Py_ssize_t)(table - reader->tables), reader->number,
                                           Py_None, image.at, (Py_ssize_t)(image.end - image.at));
    int put = told == NULL ? -1 : told != Py_None;
    if (put == 1 && !PyBytes_Check(told)) {
        PyErr_SetString(PyExc_TypeError, "a cell is not bytes");
        put = -1;
    }
    if (put == 1)
        *cell = told;
    else
        Py_XDECREF(told);
    return put;
}

/* The cell of an image as the spill writes values; an empty text for none. Answers as readers do. */
static int image_cell(Reader *reader, Table *table, Cursor image, PyObject **cell)
{
    Buffer *out = &reader->spill; /* what it had of the row is in its cell */
    Cursor whole = image;
    int nothing = image.at == NULL || (READ_WORD(&whole, "null") && whole.at == whole.end);
    whole = image;
    nothing = nothing || (READ_WORD(&whole, "{}") && whole.at == whole.end);
    out->used = reader->scratch.used = reader->entries.used = 0;
    if (buffer_put_char(out, '"') < 0)
        return -1;
    if (!nothing) {
        Writing writing = {out, &reader->scratch, &reader->entries, 1, &inner_quote};
        Cursor inside = image;
        int put = table->hides ? 0 : put_map(&inside, &writing, MAX_NESTING);
        if (put < 0)
            return -1;
        if (put == 0 || inside.at != image.end)
            return odd_image(reader, table, image, cell);
    }
    if (buffer_put_char(out, '"') < 0)
        return -1;
    *cell = PyBytes_FromStringAndSize(out->data, out->used);
    return *cell == NULL ? -1 : 1;
}

/* The cell of an event's id: None where the record has none. */
static int event_id_cell(Cursor span, PyObject **cell)
{
    Text text;
    const char *start = span.at;
    *cell = NULL;
    if (start != NULL && (!read_text(&span, &text) || text.escaped))
        return 0;
    *cell = start == NULL || text.size == 0 ? Py_NewRef(Py_None) : PyBytes_FromStringAndSize(start, text.size + 2);
    return *cell == NULL ? -1 : 1;
}

static Text identity_of(const Change *change)
{
    const char *start = change->identity.at;
    return (Text){start, start == NULL ? 0 : change->identity.end - start, 0};
}

static int has_identity(const Change *change)
{
    Text identity = identity_of(change);
    return identity.data != NULL && !TEXT_IS(&identity, "null");
}

/* Whether the identity is plainly that of DynamoDB itself: the item's time had come. */
static int is_ttl(const Change *change)
{
    Text identity = identity_of(change);
    return TEXT_IS(&identity, "{\"type\":\"Service\",\"principalId\":\"dynamodb.amazonaws.com\"}") ||
           TEXT_IS(&identity, "{\"principalId\":\"dynamodb.amazonaws.com\",\"type\":\"Service\"}");
}

/* The cells of the key, one by one. */
static PyObject *keys_told(Table *table)
{
    PyObject *keys = PyList_New(0);
    for (Py_ssize_t index = 0; keys != NULL && index < table->fields.count; index++) {
        if (!table->fields.fields[index].key)
            continue;
        Column *column = &table->columns[table->fields.fields[index].column];
        Py_ssize_t size = column->cells.used - column->before - 1; /* without the comma */
        if (append_new(keys, PyBytes_FromStringAndSize(column->cells.data + column->before, size)) < 0)
            Py_CLEAR(keys);
    }
    return keys;
}

/* (keys, event, deleted by, old image, new image, event id), the texts apart cells, of a row that has its cells. */
static int change_told(Reader *reader, Table *table, const Change *change, PyObject **told)
{
    PyObject *old = NULL, *new = NULL, *id = NULL, *keys = NULL;
    int removed = change->event.data != NULL && TEXT_IS(&change->event, "REMOVE");
    int put = image_cell(reader, table, change->old_image, &old);
    if (put == 1)
        put = image_cell(reader, table, removed ? (Cursor){0} : change->image, &new);
    if (put == 1)
        put = event_id_cell(change->event_id, &id);
    if (put == 1)
        put = (keys = keys_told(table)) == NULL ? -1 : 1;
    if (put == 1) {
        const char *deleted_by = !removed ? "" : is_ttl(change) ? "ttl" : "user";
        *told = Py_BuildValue("Os#sOOO", keys, change->event.data, change->event.size, deleted_by, old, new, id);
        put = *told == NULL ? -1 : 1;
    }
    Py_XDECREF(keys);
    Py_XDECREF(id);
    Py_XDECREF(new);
    Py_XDECREF(old);
    return put;
}

#endif
