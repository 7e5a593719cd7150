/* Change records and lines of an export into columns of cells: the plain ones, which are nearly all. What is not plain
   is handed to the exact path, a value or a record at a time. Same results as the exact path, byte for byte. */

#define PY_SSIZE_T_CLEAN
#include "cells.h"

#define MAX_VERSION 4102444800000000u /* the year 2100 in microseconds, as in envelope.py */
#define MICROSECONDS_FROM 100000000000000u
#define MAX_TIME_LENGTH 16

/* What is needed of a change record. A cursor without a start: the record has no such field. */
typedef struct {
    Text event, table;
    Cursor keys, image;
    Text time, precision; /* the latter as it stands in the record, quotes included */
} Change;

/* One field of an object: remember where its value is, once. */
static int note_span(Cursor *cursor, Cursor *span)
{
    if (span->at != NULL)
        return 0;
    span->at = cursor->at;
    if (!skip_value(cursor, MAX_NESTING))
        return 0;
    span->end = cursor->at;
    return 1;
}

static int note_text(Cursor *cursor, Text *text)
{
    Cursor span = {.at = text->data};
    int noted = note_span(cursor, &span);
    *text = (Text){span.at, span.end - span.at, 0};
    return noted;
}

static int read_body(Cursor *cursor, Change *change)
{
    if (!read_char(cursor, '{'))
        return 0;
    do {
        Text name;
        int noted;
        if (!read_text(cursor, &name) || name.escaped || !read_char(cursor, ':'))
            return 0;
        if (TEXT_IS(&name, "Keys"))
            noted = note_span(cursor, &change->keys);
        else if (TEXT_IS(&name, "NewImage"))
            noted = note_span(cursor, &change->image);
        else if (TEXT_IS(&name, "ApproximateCreationDateTime"))
            noted = note_text(cursor, &change->time);
        else if (TEXT_IS(&name, "ApproximateCreationDateTimePrecision"))
            noted = note_text(cursor, &change->precision);
        else
            noted = skip_value(cursor, MAX_NESTING);
        if (!noted)
            return 0;
    } while (read_char(cursor, ','));
    return read_char(cursor, '}');
}

static int read_change(Cursor *cursor, Change *change)
{
    int bodies = 0;
    *change = (Change){0};
    if (!read_char(cursor, '{'))
        return 0;
    do {
        Text name;
        int noted;
        if (!read_text(cursor, &name) || name.escaped || !read_char(cursor, ':'))
            return 0;
        if (TEXT_IS(&name, "eventName"))
            noted = change->event.data == NULL && read_text(cursor, &change->event);
        else if (TEXT_IS(&name, "tableName"))
            noted = change->table.data == NULL && read_text(cursor, &change->table) && !change->table.escaped;
        else if (TEXT_IS(&name, "dynamodb"))
            noted = bodies++ == 0 && read_body(cursor, change);
        else
            noted = skip_value(cursor, MAX_NESTING);
        if (!noted)
            return 0;
    } while (read_char(cursor, ','));
    return read_char(cursor, '}') && cursor->at == cursor->end && bodies && change->event.data && change->table.size &&
           change->keys.at != NULL;
}

/* Microseconds since the epoch; 0 for what the exact path must judge. */
static uint64_t time_of(const Change *change)
{
    uint64_t time = 0;
    const Text *digits = &change->time, *precision = &change->precision;
    if (digits->data == NULL || digits->size > MAX_TIME_LENGTH)
        return 0;
    for (Py_ssize_t place = 0; place < digits->size; place++) {
        if (!is_digit(digits->data[place]))
            return 0;
        time = time * 10 + (uint64_t)(digits->data[place] - '0');
    }
    if (precision->data == NULL)
        time *= time >= MICROSECONDS_FROM ? 1 : 1000;
    else if (TEXT_IS(precision, "\"MILLISECOND\""))
        time *= 1000;
    else if (!TEXT_IS(precision, "\"MICROSECOND\""))
        return 0;
    return time < MAX_VERSION ? time : 0;
}

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

static int append_new(PyObject *list, PyObject *item)
{
    int appended = item == NULL ? -1 : PyList_Append(list, item);
    Py_XDECREF(item);
    return appended;
}

static int row_end(Reader *reader, Table *table, PyObject *key, uint64_t time)
{
    if (append_new(table->key_cells, key) < 0 || append_new(table->times, PyLong_FromUnsignedLongLong(time)) < 0 ||
        append_new(table->numbers, PyLong_FromSsize_t(reader->number)) < 0)
        return -1;
    table->spilled += table->row_spilled;
    table->outside += table->row_outside;
    table->row++;
    return 1;
}

/* Read one item, or a tombstone where there is none, into a row of a table. */
static int read_row(Reader *reader, Table *table, Cursor *item, int keyed, uint64_t time)
{
    row_begin(table);
    reader->rest.used = reader->scratch.used = 0;
    reader->spill.used = 0;
    if (buffer_put_char(&reader->spill, '{') < 0)
        return -1;
    int put = item != NULL ? read_item(reader, table, item, keyed) : read_tombstone(reader, table);
    if (put == 1 && item != NULL)
        put = item->at == item->end;
    if (put == 1)
        put = finish_cells(reader, table, item == NULL);
    if (put == 0)
        row_take_back(table);
    return put == 1 ? row_end(reader, table, key_of(table, &reader->scratch), time) : put;
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

/* Count a record of a table that nobody here knows. */
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

static int read_record(Reader *reader, Cursor *cursor, PyObject *others)
{
    Change change;
    if (!is_utf8(cursor->at, cursor->end - cursor->at) || !read_change(cursor, &change))
        return 0;
    int removed = TEXT_IS(&change.event, "REMOVE");
    if (!removed && !TEXT_IS(&change.event, "INSERT") && !TEXT_IS(&change.event, "MODIFY"))
        return 0;
    Table *table = find_table(reader, &change.table);
    if (table == NULL)
        return note_other(reader, &change.table, others);
    uint64_t time = time_of(&change);
    if (time == 0 || (removed && table->ignores_deletes) || (!removed && change.image.at == NULL))
        return 0;
    if (!read_keys(table, change.keys))
        return 0;
    return read_row(reader, table, removed ? NULL : &change.image, 1, time);
}

static int read_line(Reader *reader, Cursor *cursor, uint64_t time)
{
    if (reader->count != 1 || !is_utf8(cursor->at, cursor->end - cursor->at) || !READ_WORD(cursor, "{\"Item\":"))
        return 0;
    Cursor item = {cursor->at, cursor->end - 1};
    if (item.end <= item.at || *item.end != '}')
        return 0;
    return read_row(reader, &reader->tables[0], &item, 0, time);
}

/* Have the exact path judge a record: None, if it has no row, or (table, cells, key, microseconds). */
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
            taken = row_end(reader, table, Py_NewRef(key), time);
    }
    Py_DECREF(told);
    return taken;
}

/* A table's part of the sub-batch: (table, columns, keys, times, numbers, spilled, outside). */
static PyObject *table_told(Reader *reader, Table *table)
{
    PyObject *columns = PyList_New(table->width);
    for (Py_ssize_t index = 0; columns != NULL && index < table->width; index++) {
        Buffer *cells = &table->columns[index].cells;
        PyObject *joined = PyBytes_FromStringAndSize(cells->data, cells->used - 1);
        if (joined == NULL)
            Py_CLEAR(columns);
        else
            PyList_SET_ITEM(columns, index, joined);
    }
    if (columns == NULL)
        return NULL;
    return Py_BuildValue("nNOOOnn", (Py_ssize_t)(table - reader->tables), columns, table->key_cells, table->times,
                         table->numbers, table->spilled, table->outside);
}

static int read_all(Reader *reader, PyObject *records, unsigned long long time, PyObject *others)
{
    for (reader->number = 0; reader->number < PyList_GET_SIZE(records); reader->number++) {
        PyObject *record = PyList_GET_ITEM(records, reader->number);
        if (!PyBytes_Check(record)) {
            PyErr_SetString(PyExc_TypeError, "a record is not bytes");
            return -1;
        }
        Py_INCREF(record); /* the exact path runs code of its own */
        Cursor cursor = {PyBytes_AS_STRING(record), PyBytes_AS_STRING(record) + PyBytes_GET_SIZE(record)};
        int read = time ? read_line(reader, &cursor, time) : read_record(reader, &cursor, others);
        if (read == 0)
            read = take_exact(reader);
        Py_DECREF(record);
        if (read < 0)
            return -1;
    }
    return 0;
}

static int begin(Reader *reader, PyObject *opens)
{
    if (PyTuple_GET_SIZE(opens) != reader->count) {
        PyErr_SetString(PyExc_ValueError, "not as many as there are tables");
        return -1;
    }
    for (Py_ssize_t index = 0; index < reader->count; index++) {
        reader->tables[index].open = PyTuple_GET_ITEM(opens, index) == Py_True;
        if (table_begin(&reader->tables[index]) < 0)
            return -1;
    }
    return 0;
}

static PyObject *found_tables(Reader *reader)
{
    PyObject *found = PyList_New(0);
    for (Py_ssize_t index = 0; found != NULL && index < reader->count; index++)
        if (reader->tables[index].row && append_new(found, table_told(reader, &reader->tables[index])) < 0)
            Py_CLEAR(found);
    return found;
}

/* Keep nothing of a sub-batch but buffers of the usual size: nobody counts what is held here. */
static void let_go(Reader *reader)
{
    for (Py_ssize_t index = 0; index < reader->count; index++) {
        Table *table = &reader->tables[index];
        Py_CLEAR(table->key_cells);
        Py_CLEAR(table->times);
        Py_CLEAR(table->numbers);
        for (Py_ssize_t column = 0; column < table->width; column++)
            buffer_trim(&table->columns[column].cells);
    }
    buffer_trim(&reader->scratch);
    buffer_trim(&reader->text);
    buffer_trim(&reader->spill);
    entries_trim(&reader->entries);
    entries_trim(&reader->rest);
    reader->odd = reader->exact = NULL;
}

PyDoc_STRVAR(read_doc, "read(records, time, opens, odd, exact, others)\n--\n\n"
                       "Read change records, or lines of an export where there is a time. See compiled/decoders.py.");

static PyObject *reader_read(Reader *reader, PyObject *arguments)
{
    PyObject *records, *opens, *odd, *exact, *others, *found = NULL;
    unsigned long long time;
    if (!PyArg_ParseTuple(arguments, "O!KO!OOO!", &PyList_Type, &records, &time, &PyTuple_Type, &opens, &odd, &exact,
                          &PyDict_Type, &others))
        return NULL;
    if (reader->busy) { /* a callback calls back: nothing of the call that is under way may be touched */
        PyErr_SetString(PyExc_RuntimeError, "the reader is in use");
        return NULL;
    }
    reader->busy = 1;
    reader->odd = odd;
    reader->exact = exact;
    if (begin(reader, opens) == 0 && read_all(reader, records, time, others) == 0)
        found = found_tables(reader);
    let_go(reader);
    reader->busy = 0;
    return found;
}

static void reader_free(Reader *reader)
{
    PyTypeObject *type = Py_TYPE(reader);
    for (Py_ssize_t index = 0; reader->tables != NULL && index < reader->count; index++)
        table_free(&reader->tables[index]);
    PyMem_Free(reader->tables);
    buffer_free(&reader->scratch);
    buffer_free(&reader->text);
    buffer_free(&reader->spill);
    PyMem_Free(reader->entries.items);
    PyMem_Free(reader->rest.items);
    type->tp_free(reader);
    Py_DECREF(type);
}

static PyObject *reader_new(PyTypeObject *type, PyObject *arguments, PyObject *named)
{
    PyObject *tables;
    static char *names[] = {"tables", NULL};
    if (!PyArg_ParseTupleAndKeywords(arguments, named, "O!", names, &PyTuple_Type, &tables))
        return NULL;
    Reader *reader = (Reader *)type->tp_alloc(type, 0);
    if (reader == NULL)
        return NULL;
    reader->tables = PyMem_Calloc((size_t)PyTuple_GET_SIZE(tables) + 1, sizeof *reader->tables);
    int made = reader->tables == NULL ? -1 : 0;
    if (made < 0)
        PyErr_NoMemory();
    for (Py_ssize_t index = 0; made == 0 && index < PyTuple_GET_SIZE(tables); index++) {
        reader->count = index + 1;
        made = table_make(&reader->tables[index], PyTuple_GET_ITEM(tables, index));
    }
    if (made < 0)
        Py_CLEAR(reader);
    return (PyObject *)reader;
}

static PyMethodDef reader_methods[] = {{"read", (PyCFunction)reader_read, METH_VARARGS, read_doc}, {0}};

static PyType_Slot reader_slots[] = {
    {Py_tp_new, reader_new}, {Py_tp_dealloc, reader_free}, {Py_tp_methods, reader_methods}, {0}};

static PyType_Spec reader_spec = {
    "dyncdc.decode.compiled._rows.Reader", sizeof(Reader), 0, Py_TPFLAGS_DEFAULT, reader_slots};

static int module_exec(PyObject *module)
{
    base64_prepare();
    PyObject *type = PyType_FromModuleAndSpec(module, &reader_spec, NULL);
    int added = type == NULL ? -1 : PyModule_AddObjectRef(module, "Reader", type);
    Py_XDECREF(type);
    return added;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_rows", .m_slots = module_slots};

PyMODINIT_FUNC PyInit__rows(void)
{
    return PyModuleDef_Init(&module);
}
