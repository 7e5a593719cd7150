/* Nested values as JSON text: DynamoDB's typed form made canonical, or plain, map keys sorted. */

#ifndef DYNCDC_DOCUMENTS_H
#define DYNCDC_DOCUMENTS_H

#include "values.h"

typedef struct {
    Text name;
    Py_ssize_t first, behind; /* of name and value in the buffer */
} Entry;

/* Entries of the maps that are being written, innermost last. Kept from value to value. */
typedef struct {
    Entry *items;
    Py_ssize_t used, room;
} Entries;

static int entries_put(Entries *entries, Entry entry)
{
    if (entries->used == entries->room) {
        Py_ssize_t room = entries->room ? entries->room * 2 : 64;
        Entry *items = PyMem_Realloc(entries->items, (size_t)room * sizeof *items);
        if (items == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        entries->items = items;
        entries->room = room;
    }
    entries->items[entries->used++] = entry;
    return 0;
}

static void entries_trim(Entries *entries)
{
    if (entries->room <= KEPT_BYTES / (Py_ssize_t)sizeof *entries->items)
        return;
    PyMem_Free(entries->items);
    *entries = (Entries){0};
}

static int entry_order(const void *one, const void *other)
{
    return text_order(&((const Entry *)one)->name, &((const Entry *)other)->name);
}

#define FEW 32 /* entries: the usual map, for which a call of qsort is too much */

static void sort_entries(Entry *first, Py_ssize_t count)
{
    if (count > FEW) {
        qsort(first, (size_t)count, sizeof *first, entry_order);
        return;
    }
    for (Py_ssize_t next = 1; next < count; next++) {
        Entry entry = first[next];
        Py_ssize_t place = next;
        for (; place > 0 && text_order(&first[place - 1].name, &entry.name) > 0; place--)
            first[place] = first[place - 1];
        first[place] = entry;
    }
}

/* Sort what was written of the entries from `first` on, which lie in the buffer one behind the other, and put commas
   between them. 0 if a name comes twice. */
static int put_sorted(Buffer *out, Buffer *scratch, Entry *first, Py_ssize_t count)
{
    Py_ssize_t start = count ? first[0].first : 0, size = out->used - start, before = scratch->used;
    int sorted = 1;
    for (Py_ssize_t place = 1; place < count && sorted; place++)
        sorted = text_order(&first[place - 1].name, &first[place].name) < 0;
    if (sorted)
        return 1; /* a comma follows each of them already */
    if (buffer_put(scratch, out->data + start, size) < 0)
        return -1;
    sort_entries(first, count);
    out->used = start;
    for (Py_ssize_t place = 0; place < count; place++) {
        if (place && text_order(&first[place - 1].name, &first[place].name) == 0) {
            scratch->used = before;
            return 0;
        }
        memcpy(out->data + out->used, scratch->data + before + (first[place].first - start),
               (size_t)(first[place].behind - first[place].first));
        out->used += first[place].behind - first[place].first;
    }
    scratch->used = before;
    return 1;
}

typedef struct {
    Buffer *out, *scratch;
    Entries *entries;
    int typed;
    const Quote *quote; /* bare, or inner where the document is the text of a cell */
} Writing;

static int put_value(Cursor *cursor, Writing *writing, int levels);

/* The inside of a map. Its entries carry a comma each while they are sorted; the last one is taken off. */
static int put_map(Cursor *cursor, Writing *writing, int levels)
{
    Buffer *out = writing->out;
    Py_ssize_t before = writing->entries->used;
    if (!read_char(cursor, '{'))
        return 0;
    if (buffer_put_char(out, '{') < 0)
        return -1;
    if (read_char(cursor, '}'))
        return buffer_put_char(out, '}') < 0 ? -1 : 1;
    do {
        Entry entry = {.first = out->used};
        if (!read_text(cursor, &entry.name) || entry.name.escaped || !read_char(cursor, ':'))
            return 0;
        if (put_between(out, writing->quote, entry.name.data, entry.name.size) < 0 || buffer_put_char(out, ':') < 0)
            return -1;
        int put = put_value(cursor, writing, levels);
        if (put < 1)
            return put;
        if (buffer_put_char(out, ',') < 0)
            return -1;
        entry.behind = out->used;
        if (entries_put(writing->entries, entry) < 0)
            return -1;
    } while (read_char(cursor, ','));
    if (!read_char(cursor, '}'))
        return 0;
    Py_ssize_t count = writing->entries->used - before;
    int put = put_sorted(out, writing->scratch, writing->entries->items + before, count);
    writing->entries->used = before;
    if (put == 1)
        out->data[out->used - 1] = '}';
    return put;
}

static int put_list(Cursor *cursor, Writing *writing, int levels)
{
    if (!read_char(cursor, '['))
        return 0;
    if (buffer_put_char(writing->out, '[') < 0)
        return -1;
    if (!read_char(cursor, ']')) {
        for (;;) {
            int put = put_value(cursor, writing, levels);
            if (put < 1)
                return put;
            if (!read_char(cursor, ','))
                break;
            if (buffer_put_char(writing->out, ',') < 0)
                return -1;
        }
        if (!read_char(cursor, ']'))
            return 0;
    }
    return buffer_put_char(writing->out, ']') < 0 ? -1 : 1;
}

static int put_payload(Cursor *cursor, Writing *writing, enum Tag tag, int levels)
{
    Buffer *out = writing->out;
    Text text;
    Number number;
    switch (tag) {
    case T_S:
        if (!read_text(cursor, &text))
            return 0;
        return put_text(out, writing->quote, &text, writing->scratch) < 0 ? -1 : 1;
    case T_N:
        if (!read_number(cursor, &number))
            return 0;
        return (writing->typed ? put_number(out, writing->quote, &number) : buffer_put(out, number.data, number.size)) < 0 ? -1 : 1;
    case T_M:
        return put_map(cursor, writing, levels - 1);
    case T_L:
        return put_list(cursor, writing, levels - 1);
    case T_BOOL:
        if (READ_WORD(cursor, "true"))
            return buffer_put(out, "true", 4) < 0 ? -1 : 1;
        return READ_WORD(cursor, "false") ? (buffer_put(out, "false", 5) < 0 ? -1 : 1) : 0;
    case T_NULL:
        if (!READ_WORD(cursor, "true"))
            return 0;
        return buffer_put(out, writing->typed ? "true" : "null", 4) < 0 ? -1 : 1;
    case T_B: /* in plain JSON it would look like a text, and a set like a list: the spill must tell */
        if (!writing->typed || !read_text(cursor, &text) || !is_base64(&text))
            return 0;
        return put_between(out, writing->quote, text.data, text.size) < 0 ? -1 : 1;
    case T_SS:
        return writing->typed ? put_text_set(cursor, out, writing->quote) : 0;
    default:
        return 0;
    }
}

/* One typed value with its tag. */
static int put_value(Cursor *cursor, Writing *writing, int levels)
{
    enum Tag tag = read_tag(cursor);
    if (tag == T_NONE || levels <= 0)
        return 0;
    const Opening *opening = writing->quote == &inner_quote ? &inner_openings[tag] : &bare_openings[tag];
    if (writing->typed && buffer_put(writing->out, opening->text, opening->size) < 0)
        return -1;
    int put = put_payload(cursor, writing, tag, levels);
    if (put < 1)
        return put;
    if (!read_char(cursor, '}'))
        return 0;
    return writing->typed && buffer_put_char(writing->out, '}') < 0 ? -1 : 1;
}

#endif
