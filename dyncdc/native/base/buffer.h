/* Bytes that grow, and lists. Functions answer 0, or -1 with a Python exception set. */

#ifndef DYNCDC_BUFFER_H
#define DYNCDC_BUFFER_H

#include <Python.h>
#include <string.h>

typedef struct {
    char *data;
    Py_ssize_t used, room;
} Buffer;

static inline int buffer_grow(Buffer *buffer, Py_ssize_t more)
{
    Py_ssize_t room = buffer->room < 256 ? 256 : buffer->room;
    if (more > PY_SSIZE_T_MAX / 4 || buffer->used > PY_SSIZE_T_MAX / 4) {
        PyErr_NoMemory();
        return -1;
    }
    while (room < buffer->used + more)
        room *= 2;
    char *data = PyMem_Realloc(buffer->data, (size_t)room);
    if (data == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    buffer->data = data;
    buffer->room = room;
    return 0;
}

/* Make room for `more` bytes behind those that are used. */
static inline int buffer_reserve(Buffer *buffer, Py_ssize_t more)
{
    return buffer->room - buffer->used >= more ? 0 : buffer_grow(buffer, more);
}

static inline int buffer_put(Buffer *buffer, const char *data, Py_ssize_t size)
{
    if (buffer_reserve(buffer, size) < 0)
        return -1;
    if (size)
        memcpy(buffer->data + buffer->used, data, (size_t)size);
    buffer->used += size;
    return 0;
}

static inline int buffer_put_char(Buffer *buffer, char one)
{
    return buffer_put(buffer, &one, 1);
}

static inline int buffer_put_bytes(Buffer *buffer, PyObject *bytes)
{
    return buffer_put(buffer, PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes));
}

/* Append an item that is new, or NULL with an exception set. */
static int append_new(PyObject *list, PyObject *item)
{
    int appended = item == NULL ? -1 : PyList_Append(list, item);
    Py_XDECREF(item);
    return appended;
}

#define KEPT_BYTES 262144 /* of room between two sub-batches */

static inline void buffer_free(Buffer *buffer)
{
    PyMem_Free(buffer->data);
    buffer->data = NULL;
    buffer->used = buffer->room = 0;
}

/* Give back what one large value has taken. */
static inline void buffer_trim(Buffer *buffer)
{
    if (buffer->room > KEPT_BYTES)
        buffer_free(buffer);
}

#endif
