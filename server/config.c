/* server/config.c - see config.h.  The only file that knows inih. */
#include "server/config.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "server/config_internal.h"

#define DEFAULT_FILE "/etc/sluice/sluice.conf"

enum { FILE_LINE_MAX = 198, FILE_LINES_MAX = 10000 };

/* --- names --------------------------------------------------------------------------------- */

void sl_option_variable(const sl_option *option, char out[80])
{
    int n = snprintf(out, 80, "SLUICE_%.70s", option->name);

    for (int i = 0; i < n; i++)
        out[i] = out[i] == '-' ? '_' : (char)toupper((unsigned char)out[i]);
}

void sl_option_key(const sl_option *option, char out[80])
{
    int n = snprintf(out, 80, "%.70s", option->name);

    for (int i = 0; i < n; i++)
        out[i] = out[i] == '-' ? '_' : out[i];
}

static const sl_option *find_option(const char *name, size_t n)
{
    for (size_t i = 0; i < sl_option_count; i++) {
        const sl_option *o = &sl_option_table[i];

        if (strlen(o->name) == n && strncmp(o->name, name, n) == 0)
            return o;
    }
    return NULL;
}

/* Edits that turn one short name into the other: insert, delete, replace, swap neighbours. */
static int distance(const char *a, const char *b)
{
    enum { WIDTH = 64 };
    int row[3][WIDTH + 1];
    const int na = (int)strnlen(a, WIDTH), nb = (int)strnlen(b, WIDTH);

    for (int j = 0; j <= nb; j++)
        row[0][j] = j;
    for (int i = 1; i <= na; i++) {
        int *now = row[i % 3], *before = row[(i + 2) % 3];

        now[0] = i;
        for (int j = 1; j <= nb; j++) {
            const int replace = before[j - 1] + (a[i - 1] != b[j - 1]);

            now[j] = before[j] + 1 < now[j - 1] + 1 ? before[j] + 1 : now[j - 1] + 1;
            if (replace < now[j])
                now[j] = replace;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                row[(i + 1) % 3][j - 2] + 1 < now[j])
                now[j] = row[(i + 1) % 3][j - 2] + 1;
        }
    }
    return row[na % 3][nb];
}

/* The option whose name is nearest to `name` (in dashes, lower case). */
static const sl_option *nearest(const char *name)
{
    const sl_option *best = &sl_option_table[0];
    int best_distance = INT_MAX;

    for (size_t i = 0; i < sl_option_count; i++) {
        const int d = distance(name, sl_option_table[i].name);

        if (d < best_distance) {
            best = &sl_option_table[i];
            best_distance = d;
        }
    }
    return best;
}

/* Lower case, '_' to '-'; cut at n - 1. */
static void to_dashes(const char *name, char *out, size_t n)
{
    size_t i = 0;

    for (; name[i] != '\0' && i + 1 < n; i++)
        out[i] = name[i] == '_' ? '-' : (char)tolower((unsigned char)name[i]);
    out[i] = '\0';
}

/* --- values -------------------------------------------------------------------------------- */

static bool parse_bool(const char *text, bool *out)
{
    static const char *const word[][2] = {
        {"true", "false"}, {"1", "0"}, {"yes", "no"}, {"on", "off"}};

    for (size_t i = 0; i < sizeof(word) / sizeof(word[0]); i++)
        for (int k = 0; k < 2; k++)
            if (strcasecmp(text, word[i][k]) == 0) {
                *out = k == 0;
                return true;
            }
    return false;
}

/* Digits only: no sign, no space, no overflow. */
static bool parse_number(const char *text, const char **end, uint64_t *out)
{
    uint64_t v = 0;
    const char *p = text;

    for (; *p >= '0' && *p <= '9'; p++) {
        const uint64_t digit = (uint64_t)(*p - '0');

        if (v > (UINT64_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *end = p;
    *out = v;
    return p != text;
}

static bool parse_bytes(const char *text, uint64_t *out)
{
    static const char units[] = "KMGT";
    const char *end, *unit;
    uint64_t v;

    if (!parse_number(text, &end, &v))
        return false;
    unit = *end != '\0' ? strchr(units, toupper((unsigned char)*end)) : NULL;
    if (unit != NULL) {
        const int shift = 10 * (int)(unit - units + 1);

        if (v > UINT64_MAX >> shift)
            return false;
        v <<= shift;
        end++;
        if (end[0] == 'i' || end[0] == 'I')
            end++;
    }
    if (*end == 'B' || *end == 'b')
        end++;
    *out = v;
    return *end == '\0';
}

static bool is_choice(const char *choices, const char *text)
{
    const size_t n = strlen(text);

    for (const char *p = choices; p != NULL; p = strchr(p, '|')) {
        p += *p == '|';
        if (n > 0 && strncmp(p, text, n) == 0 && (p[n] == '|' || p[n] == '\0'))
            return true;
    }
    return false;
}

/* Text must be able to stand in an INI file. */
static bool is_text(const char *text, size_t size)
{
    const size_t n = strlen(text);

    if (n >= size || (n > 0 && (isspace((unsigned char)text[0]) ||
                                isspace((unsigned char)text[n - 1]) || text[0] == ';')))
        return false;
    for (size_t i = 0; i < n; i++)
        if (iscntrl((unsigned char)text[i]) || (text[i] == ';' && i > 0 && text[i - 1] == ' '))
            return false;
    return true;
}

/* What is allowed, for errors. */
static void allowed_text(const sl_option *o, char *out, size_t n)
{
    switch (o->kind) {
    case SL_OPTION_CHOICE:
        snprintf(out, n, "one of %s", o->choices);
        break;
    case SL_OPTION_COUNT:
        snprintf(out, n, "a number from %llu to %llu", (unsigned long long)o->min,
                 (unsigned long long)o->max);
        break;
    case SL_OPTION_BYTES:
        snprintf(out, n, "a size from %llu to %llu bytes, such as 512M or 8G",
                 (unsigned long long)o->min, (unsigned long long)o->max);
        break;
    case SL_OPTION_SHARE:
        snprintf(out, n, "a number above 0 and up to 1");
        break;
    case SL_OPTION_BOOL:
    case SL_OPTION_ACTION:
        snprintf(out, n, "true or false");
        break;
    default:
        snprintf(out, n,
                 "text of at most %zu bytes without control characters, spaces around it, or a "
                 "semicolon after a space",
                 o->size - 1);
    }
}

/* Store a value; false if it is not allowed. */
static bool store(const sl_option *o, const char *text, sl_config *c)
{
    char *at = (char *)c + o->offset;
    const char *end;
    char *end_real;
    uint64_t v;
    double x;
    bool b;

    switch (o->kind) {
    case SL_OPTION_CHOICE:
        if (!is_choice(o->choices, text))
            return false;
        snprintf(at, o->size, "%s", text);
        return true;
    case SL_OPTION_COUNT:
        if (!parse_number(text, &end, &v) || *end != '\0' || v < o->min || v > o->max)
            return false;
        *(uint32_t *)(void *)at = (uint32_t)v;
        return true;
    case SL_OPTION_BYTES:
        if (!parse_bytes(text, &v) || v < o->min || v > o->max)
            return false;
        *(uint64_t *)(void *)at = v;
        return true;
    case SL_OPTION_SHARE:
        x = strtod(text, &end_real);
        if (end_real == text || *end_real != '\0' || !(x > 0.0 && x <= 1.0))
            return false;
        *(double *)(void *)at = x;
        return true;
    case SL_OPTION_BOOL:
    case SL_OPTION_ACTION:
        if (!parse_bool(text, &b))
            return false;
        *(bool *)(void *)at = b;
        return true;
    default:
        if (!is_text(text, o->size))
            return false;
        snprintf(at, o->size, "%s", text);
        return true;
    }
}

/* `where` names the place for the sentence: "--port", "SLUICE_PORT", "sluice.conf line 3: port". */
static sl_status set(const sl_option *o, const char *text, sl_config_source source,
                     const char *where, sl_config *c, sl_err *err)
{
    char allowed[160];

    if (!store(o, text, c)) {
        allowed_text(o, allowed, sizeof(allowed));
        return sl_fail(err, SL_EINVAL, "%.200s: '%.64s' is not %s", where, text, allowed);
    }
    c->source[o - sl_option_table] = (uint8_t)source;
    return SL_OK;
}

static void set_defaults(sl_config *c)
{
    memset(c, 0, sizeof(*c));
    for (size_t i = 0; i < sl_option_count; i++)
        if (sl_option_table[i].preset != NULL)
            (void)store(&sl_option_table[i], sl_option_table[i].preset, c);
}

/* --- the file ------------------------------------------------------------------------------ */

typedef struct file_reader {
    FILE *f;
    const char *path;
    unsigned line;
    bool cut; /* a line was too long */
    uint32_t seen_line[SL_CONFIG_OPTIONS_MAX];
    sl_config *c;
    sl_status status;
    sl_err *err;
} file_reader;

/* inih's fgets: counts lines, and takes the white space off their front, because inih takes an
 * indented line for more of the value before. */
static char *next_line(char *out, int n, void *user)
{
    file_reader *r = user;
    char line[512];
    size_t len, skip = 0;

    if (r->cut || r->line >= FILE_LINES_MAX || fgets(line, sizeof(line), r->f) == NULL)
        return NULL;
    r->line++;
    len = strlen(line);
    if (len > FILE_LINE_MAX || (size_t)n < FILE_LINE_MAX + 2) {
        r->cut = true;
        return NULL;
    }
    while (line[skip] == ' ' || line[skip] == '\t')
        skip++;
    memcpy(out, line + skip, len - skip + 1);
    return out;
}

static int on_entry(void *user, const char *section, const char *name, const char *value)
{
    file_reader *r = user;
    char dashed[80], where[300];
    const sl_option *o;

    (void)section;
    to_dashes(name, dashed, sizeof(dashed));
    o = find_option(dashed, strlen(dashed));
    snprintf(where, sizeof(where), "%.200s line %u: %.60s", r->path, r->line, name);
    if (r->status != SL_OK)
        return 0;
    if (strcmp(dashed, "api-key") == 0) {
        r->status = sl_fail(r->err, SL_EINVAL,
                            "%s: keys stand in a file of their own: api_key_file", where);
    } else if (o == NULL) {
        char key[80];

        sl_option_key(nearest(dashed), key);
        r->status =
            sl_fail(r->err, SL_EINVAL, "%s: there is no such key; did you mean '%s'?", where, key);
    } else if (o->kind == SL_OPTION_ACTION || strcmp(o->name, "config") == 0) {
        r->status =
            sl_fail(r->err, SL_EINVAL, "%s: this is an option of the command line only", where);
    } else if (r->seen_line[o - sl_option_table] != 0) {
        r->status = sl_fail(r->err, SL_EINVAL, "%s: it was set in line %u already", where,
                            r->seen_line[o - sl_option_table]);
    } else {
        r->seen_line[o - sl_option_table] = r->line;
        r->status = set(o, value, SL_SOURCE_FILE, where, r->c, r->err);
    }
    return r->status == SL_OK;
}

static sl_status read_file(const char *path, bool must_exist, sl_config *c, sl_err *err)
{
    file_reader r = {.path = path, .c = c, .err = err};
    bool failed;
    int rc;

    r.f = fopen(path, "re");
    if (r.f == NULL && !must_exist && errno == ENOENT)
        return SL_OK;
    if (r.f == NULL)
        return sl_fail(err, SL_EIO, "cannot read the configuration '%.200s': %s", path,
                       strerror(errno));
    rc = ini_parse_stream(next_line, &r, on_entry, &r);
    failed = ferror(r.f) != 0;
    fclose(r.f);
    if (r.status != SL_OK)
        return r.status;
    if (failed)
        return sl_fail(err, SL_EIO, "cannot read the configuration '%.200s'", path);
    if (r.cut)
        return sl_fail(err, SL_EINVAL, "%.200s line %u: longer than %d bytes", path, r.line,
                       FILE_LINE_MAX);
    if (r.line >= FILE_LINES_MAX)
        return sl_fail(err, SL_EINVAL, "%.200s: more than %d lines", path, FILE_LINES_MAX);
    if (rc != 0)
        return sl_fail(err, SL_EINVAL, "%.200s line %d: this is no 'key = value'", path, rc);
    return SL_OK;
}

/* --- the environment ----------------------------------------------------------------------- */

/* Variables of other parts, and those that Kubernetes sets for a service named "sluice". */
static bool is_foreign(const char *name, size_t n, const char *value)
{
    static const char *const other[] = {"SLUICE_SOURCE_ROOT", "SLUICE_BUILD", "SLUICE_URL"};

    for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++)
        if (strlen(other[i]) == n && strncmp(name, other[i], n) == 0)
            return true;
    return strncmp(name, "SLUICE_SERVICE_", 15) == 0 || strncmp(name, "SLUICE_PORT_", 12) == 0 ||
           (n == 11 && strncmp(name, "SLUICE_PORT", 11) == 0 && strstr(value, "://") != NULL);
}

static sl_status read_variable(const char *entry, sl_config *c, sl_err *err)
{
    const char *equal = strchr(entry, '=');
    char name[80], dashed[80];
    const sl_option *o;
    size_t n;

    if (strncmp(entry, "SLUICE_", 7) != 0 || equal == NULL)
        return SL_OK;
    n = (size_t)(equal - entry);
    if (is_foreign(entry, n, equal + 1))
        return SL_OK;
    snprintf(name, sizeof(name), "%.*s", n < sizeof(name) ? (int)n : (int)sizeof(name) - 1, entry);
    to_dashes(name + 7, dashed, sizeof(dashed));
    o = find_option(dashed, strlen(dashed));
    if (strcmp(dashed, "api-key") == 0)
        return sl_fail(err, SL_EINVAL,
                       "SLUICE_API_KEY: keys stand in a file; name it by SLUICE_API_KEY_FILE");
    if (o == NULL || o->kind == SL_OPTION_ACTION) {
        char variable[80];

        sl_option_variable(nearest(dashed), variable);
        return sl_fail(err, SL_EINVAL, "environment: there is no '%s'; did you mean '%s'?", name,
                       variable);
    }
    return set(o, equal + 1, SL_SOURCE_ENVIRONMENT, name, c, err);
}

static sl_status read_environment(char **environment, sl_config *c, sl_err *err)
{
    for (char **e = environment; e != NULL && *e != NULL; e++) {
        const sl_status status = read_variable(*e, c, err);

        if (status != SL_OK)
            return status;
    }
    return SL_OK;
}

/* --- the command line ---------------------------------------------------------------------- */

typedef struct line_reader {
    int argc;
    char **argv;
    int at;
    bool only_config; /* first round: find --config and --help */
    bool has_positional;
    sl_config *c;
    sl_err *err;
} line_reader;

static sl_status unknown_option(line_reader *r, const char *name)
{
    char dashed[80];

    to_dashes(name, dashed, sizeof(dashed));
    return sl_fail(r->err, SL_EINVAL, "there is no option '--%.64s'; did you mean '--%s'?", name,
                   nearest(dashed)->name);
}

static sl_status take(line_reader *r, const sl_option *o, const char *value)
{
    char where[80];

    if (r->only_config && strcmp(o->name, "config") != 0 && strcmp(o->name, "help") != 0)
        return SL_OK;
    snprintf(where, sizeof(where), "--%.70s", o->name);
    return set(o, value, SL_SOURCE_COMMAND_LINE, where, r->c, r->err);
}

/* The value of an option that needs one: after '=', or the next argument. */
static sl_status take_with_value(line_reader *r, const sl_option *o, const char *equal)
{
    if (equal != NULL)
        return take(r, o, equal + 1);
    if (r->at + 1 >= r->argc)
        return sl_fail(r->err, SL_EINVAL, "--%s needs a value", o->name);
    return take(r, o, r->argv[++r->at]);
}

static sl_status read_long(line_reader *r, const char *name)
{
    const char *equal = strchr(name, '=');
    const size_t n = equal != NULL ? (size_t)(equal - name) : strlen(name);
    const sl_option *o = find_option(name, n);

    if (n == 7 && strncmp(name, "api-key", n) == 0)
        return sl_fail(r->err, SL_EINVAL,
                       "--api-key: a key on the command line can be read by everyone on the "
                       "machine; put it into a file and name that with --api-key-file");
    if (o == NULL && n > 3 && strncmp(name, "no-", 3) == 0 && equal == NULL) {
        o = find_option(name + 3, n - 3);
        if (o != NULL && o->kind == SL_OPTION_BOOL)
            return take(r, o, "false");
        o = NULL;
    }
    if (o == NULL)
        return unknown_option(r, name);
    if (o->kind == SL_OPTION_ACTION && equal != NULL)
        return sl_fail(r->err, SL_EINVAL, "--%s takes no value", o->name);
    if (o->kind == SL_OPTION_BOOL || o->kind == SL_OPTION_ACTION)
        return take(r, o, equal != NULL ? equal + 1 : "true");
    return take_with_value(r, o, equal);
}

static sl_status read_argument(line_reader *r)
{
    const char *arg = r->argv[r->at];

    if (strncmp(arg, "--", 2) == 0 && arg[2] != '\0')
        return read_long(r, arg + 2);
    if (arg[0] == '-' && arg[1] != '\0') {
        for (size_t i = 0; i < sl_option_count; i++) {
            const sl_option *o = &sl_option_table[i];

            if (o->letter == arg[1] && arg[2] == '\0')
                return o->kind == SL_OPTION_ACTION ? take(r, o, "true")
                                                   : take_with_value(r, o, NULL);
        }
        return sl_fail(r->err, SL_EINVAL, "there is no option '%.64s'; see --help", arg);
    }
    if (r->has_positional)
        return sl_fail(r->err, SL_EINVAL, "one model only: '%.64s' is too much", arg);
    r->has_positional = true;
    return take(r, find_option("model", 5), arg);
}

static sl_status read_line(int argc, char **argv, bool only_config, sl_config *c, sl_err *err)
{
    line_reader r = {.argc = argc, .argv = argv, .only_config = only_config, .c = c, .err = err};

    for (r.at = 1; r.at < argc; r.at++) {
        const sl_status status = read_argument(&r);

        if (status != SL_OK)
            return status;
    }
    return SL_OK;
}

/* --- all together -------------------------------------------------------------------------- */

/* What single values cannot say. */
static sl_status check_together(const sl_config *c, sl_err *err)
{
    if (c->max_num_batched_tokens < c->max_num_seqs)
        return sl_fail(err, SL_EINVAL,
                       "--max-num-batched-tokens: %u is less than the %u of --max-num-seqs",
                       c->max_num_batched_tokens, c->max_num_seqs);
    if (c->tensor_parallel_size != 1)
        return sl_fail(err, SL_EINVAL, "--tensor-parallel-size: this build serves on 1 device");
    return SL_OK;
}

/* Whether --help stands anywhere: a person who asks for it gets it, whatever else is wrong. */
static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

sl_status sl_config_read(int argc, char **argv, char **environment, sl_config *out, sl_err *err)
{
    sl_config c;
    sl_status status;

    set_defaults(&c);
    if (asks_for_help(argc, argv)) {
        c.help = true;
        *out = c;
        return SL_OK;
    }
    /* First where the file is, then all in order of rank. */
    status = read_environment(environment, &c, err);
    if (status == SL_OK)
        status = read_line(argc, argv, true, &c, err);
    if (status == SL_OK) {
        char path[SL_CONFIG_TEXT_MAX];

        snprintf(path, sizeof(path), "%s", c.config[0] != '\0' ? c.config : DEFAULT_FILE);
        const bool named = c.config[0] != '\0';

        set_defaults(&c);
        status = read_file(path, named, &c, err);
    }
    if (status == SL_OK)
        status = read_environment(environment, &c, err);
    if (status == SL_OK)
        status = read_line(argc, argv, false, &c, err);
    if (status == SL_OK)
        status = check_together(&c, err);
    if (status == SL_OK)
        *out = c;
    return status;
}
