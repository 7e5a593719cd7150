/* Envelopes of change records: where their parts are. What is inside of an image is left to who asks. */

#ifndef DYNCDC_ENVELOPE_H
#define DYNCDC_ENVELOPE_H

#include "../base/json.h"

#define MAX_VERSION 4102444800000000u /* the year 2100 in microseconds, as in envelope.py */
#define MIN_VERSION 1325376000000000u /* 2012 */
#define MICROSECONDS_FROM 100000000000000u
#define MAX_TIME_LENGTH 16

typedef struct Change Change;

/* What is needed of a change record. A cursor without a start: the record has no such field. */
struct Change {
    Text event, table;
    Cursor keys, image, old_image;
    Cursor identity, event_id;
    Text time, precision; /* the latter as it stands in the record, quotes included */
    /* Takes a new image on the way, so that it need not be passed over first: answers as readers do. */
    int (*take)(Change *change, Cursor *cursor);
    void *taker;
};

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
            noted = change->take(change, cursor);
        else if (TEXT_IS(&name, "ApproximateCreationDateTime"))
            noted = note_text(cursor, &change->time);
        else if (TEXT_IS(&name, "OldImage"))
            noted = note_span(cursor, &change->old_image);
        else if (TEXT_IS(&name, "ApproximateCreationDateTimePrecision"))
            noted = note_text(cursor, &change->precision);
        else
            noted = skip_value(cursor, MAX_NESTING);
        if (noted < 1)
            return noted;
    } while (read_char(cursor, ','));
    return read_char(cursor, '}');
}

static int read_change(Cursor *cursor, Change *change)
{
    int bodies = 0;
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
        else if (TEXT_IS(&name, "userIdentity"))
            noted = note_span(cursor, &change->identity);
        else if (TEXT_IS(&name, "eventID"))
            noted = note_span(cursor, &change->event_id);
        else if (TEXT_IS(&name, "dynamodb"))
            noted = bodies++ == 0 ? read_body(cursor, change) : 0;
        else
            noted = skip_value(cursor, MAX_NESTING);
        if (noted < 1)
            return noted;
    } while (read_char(cursor, ','));
    return read_char(cursor, '}') && cursor->at == cursor->end && bodies && change->event.data && change->table.size &&
           change->keys.at != NULL;
}

/* Microseconds since the epoch; 0 for what the reference path must judge. */
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
    return time >= MIN_VERSION && time < MAX_VERSION ? time : 0;
}

#endif
