/*
 * Progress on standard error: one line that is redrawn on a terminal, one line per round and cell
 * otherwise.
 */
#include "bench.h"
#include "clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BAR_WIDTH 30

void progress_start(struct progress *progress, size_t total)
{
    *progress = (struct progress){
        .total = total,
        .start_ns = clock_now_ns(),
        .terminal = isatty(STDERR_FILENO) == 1,
    };
}

static const char *time_left(const struct progress *progress, char text[32])
{
    const double spent = (double)(clock_now_ns() - progress->start_ns) / 1e9;
    const double left = (double)(progress->total - progress->done);
    const unsigned seconds =
        progress->done == 0 ? 0 : (unsigned)(spent / (double)progress->done * left + 0.5);

    if (progress->done == 0) {
        snprintf(text, 32, "?");
    } else if (seconds < 120) {
        snprintf(text, 32, "%u s", seconds);
    } else {
        snprintf(text, 32, "%u min", (seconds + 30) / 60);
    }
    return text;
}

static void draw_bar(const struct progress *progress, const struct sample *sample)
{
    char bar[BAR_WIDTH + 1];
    char left[32];
    const size_t filled = progress->done * BAR_WIDTH / progress->total;

    memset(bar, '.', BAR_WIDTH);
    memset(bar, '#', filled);
    bar[BAR_WIDTH] = '\0';
    fprintf(stderr, "\r\033[K[%s] %zu/%zu  %s left  %s: round %u, %s, %s", bar, progress->done,
            progress->total, time_left(progress, left), sample->suite->name, sample->round + 1,
            sample->cell->name, sample->contender->name);
}

void progress_step(struct progress *progress, const struct sample *sample)
{
    const struct sample *last = progress->last;
    char left[32];

    if (progress->terminal) {
        draw_bar(progress, sample);
    } else if (last == NULL || sample->cell != last->cell || sample->round != last->round) {
        fprintf(stderr, "%s round %u, %s: %zu of %zu measurements done, %s left\n",
                sample->suite->name, sample->round + 1, sample->cell->name, progress->done,
                progress->total, time_left(progress, left));
    }
    fflush(stderr);
    progress->last = sample;
    progress->done++;
}

void progress_note(struct progress *progress, const char *format, ...)
{
    va_list arguments;

    if (progress->terminal) {
        fputs("\r\033[K", stderr);
    }
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

void progress_end(struct progress *progress)
{
    if (progress->terminal) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
}
