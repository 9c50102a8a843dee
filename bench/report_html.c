/* bench/report_html.c - results as one page without any other file: figures and three drawings. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "bench/report.h"

enum {
    WIDTH = 860,
    HEIGHT = 260,
    LEFT = 60,
    BOTTOM = 34,
    POINTS_MAX = 400, /* of a curve */
    ROWS_MAX = 600    /* requests drawn */
};

static const char style[] =
    "<style>body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:900px;color:#222}"
    "pre{background:#f6f6f4;padding:1em;overflow-x:auto;font-size:13px}h2{font-size:17px}"
    "svg{background:#fcfcfb;border:1px solid #ddd}text{font:12px system-ui,sans-serif;fill:#555}"
    ".axis{stroke:#bbb;stroke-width:1}.curve{fill:none;stroke-width:1.6}.wait{stroke:#c9c9c4}"
    ".first{stroke:#e08a1e}.rest{stroke:#2f7fb5}.bad{stroke:#c0392b}.slo{stroke:#c0392b;"
    "stroke-dasharray:4 3}</style>\n";

static void add_escaped(sl_buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '<')
            sl_buf_add_str(out, "&lt;");
        else if (*text == '>')
            sl_buf_add_str(out, "&gt;");
        else if (*text == '&')
            sl_buf_add_str(out, "&amp;");
        else
            sl_buf_add_char(out, *text);
    }
}

static double x_of(double value, double max)
{
    return LEFT + (WIDTH - LEFT - 20) * value / max;
}

static void add_axis(sl_buf *out, double max, const char *unit, int height)
{
    sl_buf_addf(out,
                "<line class=axis x1=%d y1=%d x2=%d y2=%d /><line class=axis x1=%d y1=8 x2=%d "
                "y2=%d />\n",
                LEFT, height - BOTTOM, WIDTH - 20, height - BOTTOM, LEFT, LEFT, height - BOTTOM);
    for (int i = 0; i <= 5; i++)
        sl_buf_addf(out, "<text x=%.1f y=%d text-anchor=middle>%.4g%s</text>\n",
                    x_of(max * i / 5, max), height - BOTTOM + 18, max * i / 5, i == 5 ? unit : "");
}

/* The share of samples at or below each value.  `sample` is sorted. */
static void add_cdf(sl_buf *out, const double *sample, size_t n, double target, const char *title)
{
    const double y_span = HEIGHT - BOTTOM - 12;
    const double max = n > 0 && sample[n - 1] > 0.0 ? sample[n - 1] : 1.0;
    const size_t step = n / POINTS_MAX + 1;

    sl_buf_addf(out, "<h2>%s</h2>\n<svg width=%d height=%d role=img>\n", title, WIDTH, HEIGHT);
    add_axis(out, max, " ms", HEIGHT);
    for (int i = 0; i <= 4; i++)
        sl_buf_addf(out, "<text x=%d y=%.1f text-anchor=end>%d %%</text>\n", LEFT - 6,
                    HEIGHT - BOTTOM - y_span * i / 4 + 4, 25 * i);
    sl_buf_addf(out, "<polyline class=curve stroke=\"#2f7fb5\" points=\"%d,%d", LEFT,
                HEIGHT - BOTTOM);
    for (size_t i = 0; i < n; i = i + step < n || i == n - 1 ? i + step : n - 1)
        sl_buf_addf(out, " %.1f,%.1f", x_of(sample[i], max),
                    HEIGHT - BOTTOM - y_span * (double)(i + 1) / (double)n);
    sl_buf_add_str(out, "\"/>\n");
    if (target > 0.0 && target <= max)
        sl_buf_addf(out, "<line class=slo x1=%.1f y1=8 x2=%.1f y2=%d />\n", x_of(target, max),
                    x_of(target, max), HEIGHT - BOTTOM);
    sl_buf_add_str(out, "</svg>\n");
}

static void add_span(sl_buf *out, const char *kind, double y, double from, double to)
{
    sl_buf_addf(out, "<line class=%s x1=%.1f y1=%.1f x2=%.1f y2=%.1f />", kind, from, y,
                to > from + 0.5 ? to : from + 0.5, y);
}

/* Every step-th request, and every one that failed (but not without end). */
static bool is_drawn(const sl_load_record *record, uint32_t i, uint32_t step)
{
    if (record->outcome == SL_LOAD_SKIPPED)
        return false;
    return i % step == 0 || (record->outcome != SL_LOAD_OK && step < 16);
}

static void add_timeline(sl_buf *out, const sl_report *r)
{
    const uint32_t step = r->result->count / ROWS_MAX + 1;
    uint32_t rows = 0, row = 0;
    uint64_t end_us = 1;

    for (uint32_t i = 0; i < r->result->count; i++)
        rows += is_drawn(&r->result->record[i], i, step);
    const double row_px = rows < 100 ? 4.0 : rows < 300 ? 2.0 : 1.0;
    const int height = (int)(rows * row_px) + BOTTOM + 16;

    for (uint32_t i = 0; i < r->result->count; i++)
        end_us = r->result->record[i].done_us > end_us ? r->result->record[i].done_us : end_us;
    sl_buf_addf(out,
                "<h2>Requests over time</h2><p>Grey: before it was sent. Orange: until its first "
                "text. Blue: its answer. Red: failed.%s</p>\n<svg width=%d height=%d "
                "stroke-width=%.1f role=img>\n",
                step > 1 ? " Some requests that ended well are left out." : "", WIDTH, height,
                row_px > 1.0 ? row_px - 0.8 : 1.0);
    add_axis(out, (double)end_us * 1e-6, " s", height);
    for (uint32_t i = 0; i < r->result->count; i++) {
        const sl_load_record *record = &r->result->record[i];

        if (!is_drawn(record, i, step))
            continue;
        const double y = 10.0 + row_px * row++, max = (double)end_us;
        const double intended = x_of((double)record->intended_us, max);
        const double sent = x_of((double)record->sent_us, max);
        const double done = x_of((double)record->done_us, max);

        if (record->sent_us > record->intended_us)
            add_span(out, "wait", y, intended, sent);
        if (record->outcome != SL_LOAD_OK)
            add_span(out, "bad", y, record->sent_us != 0 ? sent : intended, done);
        else {
            const double first =
                x_of((double)(record->first_us != 0 ? record->first_us : record->done_us), max);

            add_span(out, "first", y, sent, first);
            add_span(out, "rest", y, first, done);
        }
        sl_buf_add_char(out, '\n');
    }
    sl_buf_add_str(out, "</svg>\n");
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* The same samples as the summary's, gathered again: it keeps none. */
static void add_curves(sl_buf *out, const sl_report *r)
{
    size_t events = 0, firsts = 0, gaps = 0;
    sl_load_window window;
    double *ttft, *gap;

    for (uint32_t i = 0; i < r->result->count; i++)
        events += r->result->record[i].events;
    ttft = sl_alloc(r->result->count, sizeof(*ttft));
    gap = sl_alloc(events, sizeof(*gap));
    if (ttft == NULL || gap == NULL ||
        sl_load_window_of(r->options, r->result, &window, NULL) != SL_OK) {
        out->failed = true;
        goto out;
    }
    for (uint32_t i = 0; i < r->result->count; i++) {
        const sl_load_record *record = &r->result->record[i];

        if (record->outcome != SL_LOAD_OK || !sl_load_is_judged(r->plan, r->result, &window, i))
            continue;
        firsts += sl_load_ttft_of(record, &ttft[firsts]);
        for (uint32_t k = 1; k < record->events; k++)
            gap[gaps++] = (double)(record->event_us[k] - record->event_us[k - 1]) * 1e-3;
    }
    qsort(ttft, firsts, sizeof(*ttft), ascending);
    qsort(gap, gaps, sizeof(*gap), ascending);
    add_cdf(out, ttft, firsts, r->options->slo.ttft_ms, "Time to first token, from intended sends");
    add_cdf(out, gap, gaps, r->options->slo.tbt_ms, "Time between events");
out:
    sl_free(ttft);
    sl_free(gap);
}

void sl_report_html(const sl_report *r, sl_buf *out)
{
    sl_buf text;

    sl_buf_init(&text, 1 << 20);
    sl_report_text(r, &text);
    sl_buf_add_str(out, "<!doctype html>\n<html lang=en><meta charset=utf-8><title>sluice bench "
                        "serve</title>\n");
    sl_buf_add_str(out, style);
    sl_buf_add_str(out, "<h1>sluice bench serve</h1>\n<pre>");
    add_escaped(out, sl_buf_text(&text) != NULL ? sl_buf_text(&text) : "");
    sl_buf_add_str(out, "</pre>\n");
    add_curves(out, r);
    add_timeline(out, r);
    sl_buf_add_str(out, "</html>\n");
    sl_buf_done(&text);
}
