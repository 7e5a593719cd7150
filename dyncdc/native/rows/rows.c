/* Change records and lines of an export into columns of cells: the plain ones, which are nearly all. What is not plain
   is handed to the reference path, a value or a record at a time. Same results as the reference path, byte for byte. */

#define PY_SSIZE_T_CLEAN
#include "records.h"
#include "../base/version.h"

/* A table's part of the sub-batch: (table, columns, keys, times, numbers, spilled, outside, changes). */
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
    return Py_BuildValue("nNOOOnnO", (Py_ssize_t)(table - reader->tables), columns, table->key_cells, table->times,
                         table->numbers, table->spilled, table->outside, table->changes);
}

static int read_all(Reader *reader, PyObject *records, unsigned long long time, PyObject *others)
{
    for (reader->number = 0; reader->number < PyList_GET_SIZE(records); reader->number++) {
        PyObject *record = PyList_GET_ITEM(records, reader->number);
        if (!PyBytes_Check(record)) {
            PyErr_SetString(PyExc_TypeError, "a record is not bytes");
            return -1;
        }
        Py_INCREF(record); /* the reference path runs code of its own */
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

/* Keep nothing of a sub-batch but buffers of the usual size: no one counts what is held here. */
static void let_go(Reader *reader)
{
    for (Py_ssize_t index = 0; index < reader->count; index++) {
        Table *table = &reader->tables[index];
        Py_CLEAR(table->key_cells);
        Py_CLEAR(table->times);
        Py_CLEAR(table->numbers);
        Py_CLEAR(table->changes);
        for (Py_ssize_t column = 0; column < table->width; column++)
            buffer_trim(&table->columns[column].cells);
    }
    buffer_trim(&reader->scratch);
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
    "dyncdc.native._rows.Reader", sizeof(Reader), 0, Py_TPFLAGS_DEFAULT, reader_slots};

static int module_exec(PyObject *module)
{
    base64_prepare();
    PyObject *type = PyType_FromModuleAndSpec(module, &reader_spec, NULL);
    int added = type == NULL ? -1 : PyModule_AddObjectRef(module, "Reader", type);
    Py_XDECREF(type);
    return added < 0 ? added : PyModule_AddIntConstant(module, "VERSION", DYNCDC_VERSION);
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_rows", .m_slots = module_slots};

PyMODINIT_FUNC PyInit__rows(void)
{
    return PyModuleDef_Init(&module);
}
