/* The records of a GetRecords answer: what is plain of them. Everything else is left to bodies.py, which judges it. */

#define PY_SSIZE_T_CLEAN
#include "../base/json.h"
#include "../base/version.h"
#include "../base/base64.h"
#include <math.h>

/* A text without escapes: a base64 text has no quote, so the first one ends it. */
static int read_letters(Cursor *cursor, Text *text)
{
    if (!read_char(cursor, '"'))
        return 0;
    const char *quote = memchr(cursor->at, '"', (size_t)(cursor->end - cursor->at));
    if (quote == NULL)
        return 0;
    *text = (Text){cursor->at, quote - cursor->at, 0};
    cursor->at = quote + 1;
    return 1;
}

/* A number as JSON has it, a fraction and an exponent included: times come as 1.7E9. None is negative, and to msgspec
   -0 is another zero than -0.0. */
static int read_seconds(Cursor *cursor, double *seconds)
{
    char text[40];
    const char *start = cursor->at;
    Cursor whole = *cursor;
    const char *digits = start;
    while (whole.at < whole.end && is_digit(*whole.at))
        whole.at++;
    if (whole.at == digits || (whole.at - digits > 1 && *digits == '0'))
        return 0;
    if (read_char(&whole, '.')) {
        digits = whole.at;
        while (whole.at < whole.end && is_digit(*whole.at))
            whole.at++;
        if (whole.at == digits)
            return 0;
    }
    if (read_char(&whole, 'e') || read_char(&whole, 'E')) {
        if (!read_char(&whole, '+'))
            read_char(&whole, '-');
        digits = whole.at;
        while (whole.at < whole.end && is_digit(*whole.at))
            whole.at++;
        if (whole.at == digits)
            return 0;
    }
    Py_ssize_t size = whole.at - start;
    if (size >= (Py_ssize_t)sizeof text)
        return 0;
    memcpy(text, start, (size_t)size);
    text[size] = '\0';
    *seconds = PyOS_string_to_double(text, NULL, NULL);
    int read = !PyErr_Occurred() && isfinite(*seconds); /* what is too large comes as infinity */
    PyErr_Clear();
    if (read)
        cursor->at = whole.at;
    return read;
}

static int is_sequence_number(const Text *text)
{
    for (Py_ssize_t place = 0; place < text->size; place++)
        if (!is_digit(text->data[place]))
            return 0;
    return text->size > 0;
}

/* One record into the lists. */
static int read_record(Cursor *cursor, PyObject *datas, PyObject *numbers, double *arrived)
{
    Text data = {0}, number = {0};
    *arrived = 0.0;
    if (!read_char(cursor, '{'))
        return 0;
    do {
        Text name;
        int read;
        if (!read_text(cursor, &name) || name.escaped || !read_char(cursor, ':'))
            return 0;
        if (TEXT_IS(&name, "Data"))
            read = data.data == NULL && read_letters(cursor, &data);
        else if (TEXT_IS(&name, "SequenceNumber"))
            read = number.data == NULL && read_letters(cursor, &number) && is_sequence_number(&number);
        else if (TEXT_IS(&name, "ApproximateArrivalTimestamp"))
            read = read_seconds(cursor, arrived);
        else
            read = skip_value(cursor, MAX_NESTING);
        if (!read)
            return 0;
    } while (read_char(cursor, ','));
    if (!read_char(cursor, '}') || data.data == NULL || number.data == NULL)
        return 0;
    PyObject *bytes = decoded(data.data, data.size);
    if (bytes == NULL)
        return PyErr_Occurred() ? -1 : 0;
    if (append_new(datas, bytes) < 0 || append_new(numbers, PyUnicode_FromStringAndSize(number.data, number.size)) < 0)
        return -1;
    return 1;
}

/* All records into the lists; arrived[0] is when the first one came into the stream, arrived[1] when the last one did. */
static int read_records(Cursor *cursor, PyObject *datas, PyObject *numbers, double arrived[2])
{
    if (!read_char(cursor, '['))
        return 0;
    if (read_char(cursor, ']'))
        return 1;
    do {
        int read = read_record(cursor, datas, numbers, &arrived[1]);
        if (read < 1)
            return read;
        if (PyList_GET_SIZE(datas) == 1)
            arrived[0] = arrived[1];
    } while (read_char(cursor, ','));
    return read_char(cursor, ']');
}

/* Find the records of a body: 1, and where they begin and end. */
static int read_body(Cursor *cursor, Cursor *records, PyObject *datas, PyObject *numbers, double arrived[2])
{
    if (!read_char(cursor, '{'))
        return 0;
    do {
        Text name;
        int read;
        if (!read_text(cursor, &name) || name.escaped || !read_char(cursor, ':'))
            return 0;
        if (TEXT_IS(&name, "Records")) {
            if (records->at != NULL)
                return 0;
            records->at = cursor->at;
            read = read_records(cursor, datas, numbers, arrived);
            records->end = cursor->at;
        } else {
            read = skip_value(cursor, MAX_NESTING);
        }
        if (read < 1)
            return read;
    } while (read_char(cursor, ','));
    return read_char(cursor, '}') && cursor->at == cursor->end && records->at != NULL;
}

PyDoc_STRVAR(split_doc, "split(body)\n--\n\n"
                        "Return the data and the sequence numbers of the records, when the first and the last one\n"
                        "arrived, and the body with no records in it; None for what is not plain.");

static PyObject *split(PyObject *module, PyObject *body)
{
    if (!PyBytes_Check(body)) {
        PyErr_SetString(PyExc_TypeError, "a body is bytes");
        return NULL;
    }
    const char *start = PyBytes_AS_STRING(body), *end = start + PyBytes_GET_SIZE(body);
    Cursor cursor = {start, end}, records = {0};
    double arrived[2] = {0.0, 0.0};
    PyObject *datas = PyList_New(0), *numbers = PyList_New(0), *rest = NULL, *found = NULL;
    int read = datas == NULL || numbers == NULL ? -1 : read_body(&cursor, &records, datas, numbers, arrived);
    if (read == 0)
        found = Py_NewRef(Py_None);
    if (read == 1) {
        Py_ssize_t before = records.at - start, behind = end - records.end;
        rest = PyBytes_FromStringAndSize(NULL, before + 2 + behind);
        if (rest != NULL) {
            memcpy(PyBytes_AS_STRING(rest), start, (size_t)before);
            memcpy(PyBytes_AS_STRING(rest) + before, "[]", 2);
            memcpy(PyBytes_AS_STRING(rest) + before + 2, records.end, (size_t)behind);
            found = Py_BuildValue("OOddO", datas, numbers, arrived[0], arrived[1], rest);
        }
    }
    Py_XDECREF(datas);
    Py_XDECREF(numbers);
    Py_XDECREF(rest);
    return found;
}

static PyMethodDef methods[] = {{"split", split, METH_O, split_doc}, {0}};

static int module_exec(PyObject *module)
{
    letters_prepare();
    return PyModule_AddIntConstant(module, "VERSION", DYNCDC_VERSION);
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "_get_records", .m_methods = methods, .m_slots = module_slots};

PyMODINIT_FUNC PyInit__get_records(void)
{
    return PyModuleDef_Init(&module);
}
