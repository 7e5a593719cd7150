/* Tables as the reader knows them: fields by name, and the columns of a sub-batch as they grow. */

#ifndef DYNCDC_TABLES_H
#define DYNCDC_TABLES_H

#include "nested_values.h"

/* What a column makes of a value. In the order of KindName in schema/types/families/family.py. */
enum Kind {
    K_ODD, /* every value goes to the reference path */
    K_TEXT,
    K_CHECKED, /* a text that a predicate knows */
    K_INTEGER,
    K_DECIMAL,
    K_FLOAT,
    K_NUMBER,
    K_BOOL,
    K_BASE64,
    K_RAW,
    K_TEXT_SET,
    K_PLAIN,
    K_TYPED,
    K_PARTS, /* columns take parts of a map */
    KINDS
};

typedef struct Field Field;

/* Names to fields: open addressing, at most half full. */
typedef struct {
    Field *fields;
    Py_ssize_t count;
    int32_t *slots;
    size_t mask;
} Fields;

struct Field {
    PyObject *name; /* bytes */
    int kind, tag;
    Py_ssize_t column;
    PyObject *low, *high; /* bytes: digits of the least and of the greatest integer */
    Py_ssize_t whole, fraction; /* most digits of a decimal */
    unsigned takes; /* tags, as bits */
    PyObject *check;
    PyObject *absent; /* bytes: the cell of an absent value */
    int nullable, lossy, key;
    Fields parts;
    Text keyed; /* of a key: its value in the record's Keys */
    long seen;  /* the row that it was last seen in */
};

typedef struct {
    Buffer cells;
    Py_ssize_t before; /* used before the row that is being read */
    long filled;       /* the last row that has a cell */
} Column;

typedef struct {
    PyObject *name; /* bytes */
    Fields fields;
    Py_ssize_t keys;
    Column *columns;
    Py_ssize_t width;
    PyObject *absents; /* tuple of bytes: a cell for each column */
    Py_ssize_t spill, deleted; /* columns, or -1 */
    int open;                  /* names without a column go to the reference path, which takes note of them */
    int ignores_deletes, keeps_expired, has_history;
    int hides; /* parts of an item are not for everybody: images are for the reference path */
    /* of this sub-batch */
    long row;
    PyObject *key_cells, *times, *numbers;
    PyObject *changes; /* where there is a history: what it needs of each row, None for rows of the reference path */
    Py_ssize_t spilled, outside;
    Py_ssize_t row_spilled, row_outside;
} Table;

/* Eight bytes at a time; some of the last may be told twice. */
static inline size_t hash_name(const char *data, Py_ssize_t size)
{
    uint64_t hash = (uint64_t)size * 0x9e3779b97f4a7c15u, word = 0;
    for (Py_ssize_t place = 0; place + 8 < size; place += 8) {
        hash = (hash ^ word_at(data + place)) * 0xff51afd7ed558ccdu;
        hash ^= hash >> 32;
    }
    if (size >= 8)
        word = word_at(data + size - 8);
    else if (size >= 4)
        word = (uint64_t)half_at(data) << 32 | half_at(data + size - 4);
    else if (size > 0)
        word = (uint64_t)(unsigned char)data[0] << 16 | (uint64_t)(unsigned char)data[size / 2] << 8 |
               (unsigned char)data[size - 1];
    hash = (hash ^ word) * 0xff51afd7ed558ccdu;
    return (size_t)(hash ^ hash >> 32);
}

static Field *find_field(const Fields *fields, const Text *name)
{
    if (fields->count == 0)
        return NULL;
    for (size_t slot = hash_name(name->data, name->size) & fields->mask;; slot = (slot + 1) & fields->mask) {
        int32_t index = fields->slots[slot];
        if (index < 0)
            return NULL;
        Field *field = &fields->fields[index];
        if (text_is(name, PyBytes_AS_STRING(field->name), PyBytes_GET_SIZE(field->name)))
            return field;
    }
}

static void fields_free(Fields *fields)
{
    for (Py_ssize_t index = 0; index < fields->count; index++) {
        Field *field = &fields->fields[index];
        Py_XDECREF(field->name);
        Py_XDECREF(field->low);
        Py_XDECREF(field->high);
        Py_XDECREF(field->check);
        Py_XDECREF(field->absent);
        fields_free(&field->parts);
    }
    PyMem_Free(fields->fields);
    PyMem_Free(fields->slots);
    *fields = (Fields){0};
}

static int fields_make(Fields *fields, PyObject *told, Py_ssize_t width, int part);

/* A field as compiled/layout.py tells it: (name, kind, tag, column, low, high, whole, fraction, takes, check, absent,
   nullable, lossy, key, parts). */
static int field_make(Field *field, PyObject *told, Py_ssize_t width, int part)
{
    PyObject *parts;
    if (!PyArg_ParseTuple(told, "SiinSSnnIOSpppO!", &field->name, &field->kind, &field->tag, &field->column, &field->low,
                          &field->high, &field->whole, &field->fraction, &field->takes, &field->check, &field->absent,
                          &field->nullable, &field->lossy, &field->key, &PyTuple_Type, &parts)) {
        field->name = field->low = field->high = field->check = field->absent = NULL; /* borrowed, if anything */
        return -1;
    }
    Py_INCREF(field->name);
    Py_INCREF(field->low);
    Py_INCREF(field->high);
    Py_INCREF(field->check);
    Py_INCREF(field->absent);
    field->seen = -1;
    int needs_column = (field->kind != K_PARTS && field->kind != K_ODD) || field->key || part;
    if (field->kind < 0 || field->kind >= KINDS || field->tag < 0 || field->tag >= TAGS || field->column >= width ||
        (needs_column && field->column < 0)) {
        PyErr_SetString(PyExc_ValueError, "a field says what cannot be");
        return -1;
    }
    return fields_make(&field->parts, parts, width, 1);
}

/* `part`: they are parts of a map, and each fills a column. */
static int fields_make(Fields *fields, PyObject *told, Py_ssize_t width, int part)
{
    Py_ssize_t count = PyTuple_GET_SIZE(told);
    size_t size = 4;
    while (size < (size_t)count * 2)
        size *= 2;
    fields->fields = PyMem_Calloc((size_t)count + 1, sizeof *fields->fields);
    fields->slots = PyMem_Malloc(size * sizeof *fields->slots);
    if (fields->fields == NULL || fields->slots == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memset(fields->slots, 0xff, size * sizeof *fields->slots);
    fields->mask = size - 1;
    for (Py_ssize_t index = 0; index < count; index++) {
        PyObject *each = PyTuple_GET_ITEM(told, index);
        if (!PyTuple_Check(each)) {
            PyErr_SetString(PyExc_TypeError, "a field is not a tuple");
            return -1;
        }
        fields->count = index + 1;
        Field *field = &fields->fields[index];
        if (field_make(field, each, width, part) < 0)
            return -1;
        size_t slot = hash_name(PyBytes_AS_STRING(field->name), PyBytes_GET_SIZE(field->name)) & fields->mask;
        while (fields->slots[slot] >= 0)
            slot = (slot + 1) & fields->mask;
        fields->slots[slot] = (int32_t)index;
    }
    return 0;
}

static void table_free(Table *table)
{
    fields_free(&table->fields);
    for (Py_ssize_t column = 0; table->columns != NULL && column < table->width; column++)
        buffer_free(&table->columns[column].cells);
    PyMem_Free(table->columns);
    Py_CLEAR(table->name);
    Py_CLEAR(table->absents);
    Py_CLEAR(table->key_cells);
    Py_CLEAR(table->times);
    Py_CLEAR(table->numbers);
    Py_CLEAR(table->changes);
}

/* A table: (name, fields, absents, spill, deleted, ignores_deletes, keeps_expired, has_history, hides). */
static int table_make(Table *table, PyObject *told)
{
    PyObject *name, *fields, *absents;
    if (!PyArg_ParseTuple(told, "SO!O!nnpppp", &name, &PyTuple_Type, &fields, &PyList_Type, &absents, &table->spill,
                          &table->deleted, &table->ignores_deletes, &table->keeps_expired, &table->has_history,
                          &table->hides))
        return -1;
    table->name = Py_NewRef(name);
    table->absents = PyList_AsTuple(absents); /* the list may change */
    if (table->absents == NULL)
        return -1;
    table->width = PyTuple_GET_SIZE(table->absents);
    table->columns = PyMem_Calloc((size_t)table->width + 1, sizeof *table->columns);
    if (table->columns == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t column = 0; column < table->width; column++)
        if (!PyBytes_Check(PyTuple_GET_ITEM(table->absents, column))) {
            PyErr_SetString(PyExc_TypeError, "a cell is not bytes");
            return -1;
        }
    if (table->spill >= table->width || table->deleted >= table->width) {
        PyErr_SetString(PyExc_ValueError, "a table says what cannot be");
        return -1;
    }
    if (fields_make(&table->fields, fields, table->width, 0) < 0)
        return -1;
    for (Py_ssize_t index = 0; index < table->fields.count; index++)
        table->keys += table->fields.fields[index].key;
    return 0;
}

/* Begin a sub-batch. */
static int table_begin(Table *table)
{
    for (Py_ssize_t column = 0; column < table->width; column++)
        table->columns[column] = (Column){.cells = {table->columns[column].cells.data, 0, table->columns[column].cells.room}, .filled = -1};
    for (Py_ssize_t index = 0; index < table->fields.count; index++) {
        Field *field = &table->fields.fields[index];
        field->seen = -1;
        for (Py_ssize_t part = 0; part < field->parts.count; part++)
            field->parts.fields[part].seen = -1;
    }
    table->row = 0;
    table->spilled = table->outside = 0;
    Py_XSETREF(table->key_cells, PyList_New(0));
    Py_XSETREF(table->times, PyList_New(0));
    Py_XSETREF(table->numbers, PyList_New(0));
    Py_XSETREF(table->changes, PyList_New(0));
    int made = table->key_cells != NULL && table->times != NULL && table->numbers != NULL && table->changes != NULL;
    return made ? 0 : -1;
}

static void row_begin(Table *table)
{
    for (Py_ssize_t column = 0; column < table->width; column++)
        table->columns[column].before = table->columns[column].cells.used;
    table->row_spilled = table->row_outside = 0;
}

/* Forget the cell that the row has in a column, if any. */
static void take_back(Table *table, Py_ssize_t column)
{
    Column *found = &table->columns[column];
    found->cells.used = found->before;
    if (found->filled == table->row)
        found->filled = -1;
}

static void row_take_back(Table *table)
{
    for (Py_ssize_t column = 0; column < table->width; column++)
        take_back(table, column);
    for (Py_ssize_t index = 0; index < table->fields.count; index++) {
        Field *field = &table->fields.fields[index];
        field->seen = -1;
        for (Py_ssize_t part = 0; part < field->parts.count; part++)
            field->parts.fields[part].seen = -1;
    }
}

/* A cell is behind what the column held before: end it. */
static inline int end_cell(Table *table, Py_ssize_t column)
{
    table->columns[column].filled = table->row;
    return buffer_put_char(&table->columns[column].cells, ',');
}

static int put_cell(Table *table, Py_ssize_t column, PyObject *cell)
{
    take_back(table, column);
    if (buffer_put_bytes(&table->columns[column].cells, cell) < 0)
        return -1;
    return end_cell(table, column);
}

#endif
