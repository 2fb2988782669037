/*
 * The table for people. Every figure is a median over the rounds; what each column means stands
 * under the last table.
 */
#include "bench.h"

#include <stdio.h>
#include <string.h>

static const char *format_size(uint32_t size, char text[32])
{
    if (size >= 1024 && size % 1024 == 0) {
        snprintf(text, 32, "%u KiB", size / 1024);
    } else {
        snprintf(text, 32, "%u B", size);
    }
    return text;
}

/* 1234567 as 1,234,567. */
static const char *format_count(double value, char text[32])
{
    char digits[32];
    size_t used = 0;
    const int len = snprintf(digits, sizeof(digits), "%.0f", value);

    for (int i = 0; i < len && used < 30; i++) {
        if (i > 0 && (len - i) % 3 == 0) {
            text[used++] = ',';
        }
        text[used++] = digits[i];
    }
    text[used] = '\0';
    return text;
}

static void print_heading(FILE *out, const struct cell_summary *summary)
{
    const struct cell *cell = summary->cell;
    char size[32];

    fprintf(out, "\n%s x %u connection%s, depth %u", format_size(cell->size, size),
            cell->connections, cell->connections == 1 ? "" : "s", cell->depth);
    if (summary->resolution.count > 0) {
        fprintf(out, "   (A/A: %s against itself %.3f, %.3f..%.3f)", summary->reference->name,
                summary->resolution.median, summary->resolution.min, summary->resolution.max);
    }
    fprintf(out, "\n%-14s %11s %9s %7s %13s %10s %10s %9s %7s %6s\n", "model", "messages/s",
            "CPU ns/m", "ratio", "spread", "p50 us", "p99 us", "calls/m", "server", "load");
}

static void print_ratio(FILE *out, const struct row *row, bool is_reference)
{
    char range[32];

    if (row->ratio.count == 0) {
        fprintf(out, " %7s %13s", "-", "-");
    } else if (is_reference) {
        fprintf(out, " %7.3f %13s", 1.0, "reference");
    } else {
        snprintf(range, sizeof(range), "%.3f..%.3f", row->ratio.min, row->ratio.max);
        fprintf(out, " %7.3f %13s", row->ratio.median, range);
    }
}

static void print_calls(FILE *out, const struct row *row)
{
    if (row->syscalls_per_message.count == 0) {
        fprintf(out, " %9s", "");
    } else {
        fprintf(out, " %9.4f", row->syscalls_per_message.median);
    }
}

static void print_row(FILE *out, const struct row *row, bool is_reference)
{
    char rate[32];
    char cpu[32];

    fprintf(out, "%-14s", row->contender->name);
    if (row->outcome != OUTCOME_OK) {
        fprintf(out, " %s: %s\n", outcome_name(row->outcome), row->text);
        return;
    }
    fprintf(out, " %11s %9s", format_count(row->messages_per_second.median, rate),
            format_count(row->cpu_ns_per_message.median, cpu));
    print_ratio(out, row, is_reference);
    fprintf(out, " %10.1f %10.1f", row->p50_ns.median / 1e3, row->p99_ns.median / 1e3);
    print_calls(out, row);
    fprintf(out, " %6.1f%% %5.1f%%", row->server_busy.median * 100.0,
            row->load_busy.median * 100.0);
    fprintf(out, "%s%s\n", row->generator_bound ? "  generator-bound" : "",
            row->disturbed ? "  disturbed" : "");
}

void table_print(FILE *out, const struct cell_summary *summary)
{
    print_heading(out, summary);
    for (size_t i = 0; i < summary->row_count; i++) {
        const struct row *row = &summary->rows[i];

        if (!row->contender->repeat || row->outcome != OUTCOME_OK) {
            print_row(out, row, row->contender == summary->reference);
        }
    }
}

void table_legend(FILE *out, const struct contender *reference)
{
    const char *name = reference->name;

    fprintf(out,
            "\n"
            "CPU ns/m: CPU time of the server per message, kernel included.\n"
            "ratio: that, divided by %s's of the same round; median of the rounds. Below 1 is\n"
            "  less CPU time than %s. spread: smallest and largest of the rounds.\n"
            "A/A: %s measured against itself in the same way. A ratio inside that range is no\n"
            "  difference.\n",
            name, name, name);
    fputs(
        "p50, p99: service time in a closed loop, not latency. calls/m: system calls per message.\n"
        "server, load: share of a CPU used. generator-bound: the server was less than 95 % busy,\n"
        "  so messages/s and service time are not its own; CPU ns/m and ratio are.\n"
        "disturbed: other work kept one of the two from its CPU for more than 3 % of the time, in\n"
        "  half of the rounds or more.\n\n",
        out);
}
