/* Goal: command line over environment over file over default, and a helpful sentence for every
 * mistake.
 * Method: configurations from all three sources, in every combination; a table of mistakes with
 * what the sentence must say; what --print-config writes is read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/config.h"

enum { ARGS_MAX = 16 };

static char path[64];

static void write_file(const char *text)
{
    FILE *f;
    int fd;

    strcpy(path, "/tmp/sluice-conf-XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    f = fdopen(fd, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    fclose(f);
}

/* `line` is split at spaces; `variables` at '|'. */
static sl_status read_all(const char *line, const char *variables, sl_config *out, sl_err *err)
{
    char words[1024], entries[1024], *save = NULL;
    char *argv[ARGS_MAX] = {(char *)(uintptr_t) "serve"}, *environment[ARGS_MAX] = {0};
    int argc = 1, n = 0;

    snprintf(words, sizeof(words), "%s", line);
    for (char *w = strtok_r(words, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    snprintf(entries, sizeof(entries), "%s", variables != NULL ? variables : "");
    for (char *e = strtok_r(entries, "|", &save); e != NULL; e = strtok_r(NULL, "|", &save))
        environment[n++] = e;
    memset(err, 0, sizeof(*err));
    return sl_config_read(argc, argv, environment, out, err);
}

static sl_config good(const char *line, const char *variables)
{
    sl_config c;
    sl_err err;

    if (read_all(line, variables, &c, &err) != SL_OK)
        fail_msg("'%s' with '%s': %s", line, variables != NULL ? variables : "", err.text);
    return c;
}

/* --config before the rest. */
static sl_config with_file(const char *text, const char *line, const char *variables)
{
    char all[1024];
    sl_config c;

    write_file(text);
    snprintf(all, sizeof(all), "--config %s %s", path, line);
    c = good(all, variables);
    unlink(path);
    return c;
}

static void test_defaults(void **state)
{
    const sl_config c = good("model.gguf", NULL);

    (void)state;
    assert_string_equal(c.model, "model.gguf");
    assert_string_equal(c.host, "127.0.0.1");
    assert_int_equal(c.port, 8000);
    assert_string_equal(c.policy, "sluice");
    assert_int_equal(c.max_body_bytes, 4 << 20);
    assert_true(c.enable_prefix_caching);
    assert_false(c.insecure);
    assert_true(c.gpu_memory_utilization == 0.9);
    assert_int_equal(c.shutdown_timeout_s, 60);
}

static void test_each_source_wins_over_those_below(void **state)
{
    static const char file[] = "port = 1\n", variable[] = "SLUICE_PORT=2", option[] = "--port 3";

    (void)state;
    assert_int_equal(with_file(file, "", NULL).port, 1);
    assert_int_equal(good("", variable).port, 2);
    assert_int_equal(good(option, NULL).port, 3);
    assert_int_equal(with_file(file, "", variable).port, 2);
    assert_int_equal(with_file(file, option, NULL).port, 3);
    assert_int_equal(good(option, variable).port, 3);
    assert_int_equal(with_file(file, option, variable).port, 3);
    assert_int_equal(with_file("", "", NULL).port, 8000);
}

static void test_forms_of_options(void **state)
{
    sl_config c;

    (void)state;
    assert_int_equal(good("--port=81", NULL).port, 81);
    assert_int_equal(good("--port 81 --port 82", NULL).port, 82);
    assert_string_equal(good("-m a.gguf", NULL).model, "a.gguf");
    assert_string_equal(good("--model=a=b.gguf", NULL).model, "a=b.gguf");
    assert_true(good("--insecure", NULL).insecure);
    assert_true(good("--insecure=yes", NULL).insecure);
    assert_false(good("--insecure=off", NULL).insecure);
    assert_false(good("--no-enable-prefix-caching", NULL).enable_prefix_caching);
    assert_false(good("", "SLUICE_ENABLE_PREFIX_CACHING=0").enable_prefix_caching);
    assert_false(with_file("pin_threads = no\n", "", NULL).pin_threads);
    assert_int_equal(good("--kv-cache-bytes 3G", NULL).kv_cache_bytes, 3ull << 30);
    assert_int_equal(good("--kv-cache-bytes 512MiB", NULL).kv_cache_bytes, 512ull << 20);
    assert_int_equal(good("--kv-cache-bytes 2kb", NULL).kv_cache_bytes, 2048);
    assert_int_equal(good("--kv-cache-bytes 123", NULL).kv_cache_bytes, 123);
    assert_true(good("--gpu-memory-utilization 0.5", NULL).gpu_memory_utilization == 0.5);
    c = with_file("[a]\nport = 1 ; comment\n# more\n; and more\n[b]\n  max_num_seqs: 7\n\tuds=/x\n",
                  "", NULL);
    assert_int_equal(c.port, 1);
    assert_int_equal(c.max_num_seqs, 7);
    assert_string_equal(c.uds, "/x");
    c = with_file("max-num-seqs = 7\n", "--check --print-config", NULL);
    assert_int_equal(c.max_num_seqs, 7);
    assert_true(c.check && c.print_config);
}

static void test_limits_at_their_ends(void **state)
{
    sl_config c;
    sl_err err;

    (void)state;
    assert_int_equal(good("--port 0", NULL).port, 0);
    assert_int_equal(good("--port 65535", NULL).port, 65535);
    assert_int_equal(read_all("--port 65536", NULL, &c, &err), SL_EINVAL);
    assert_int_equal(good("--max-num-seqs 1", NULL).max_num_seqs, 1);
    assert_int_equal(good("--max-num-seqs 256", NULL).max_num_seqs, 256);
    assert_int_equal(read_all("--max-num-seqs 0", NULL, &c, &err), SL_EINVAL);
    assert_int_equal(read_all("--max-num-seqs 257", NULL, &c, &err), SL_EINVAL);
    assert_int_equal(read_all("--max-num-seqs 18446744073709551617", NULL, &c, &err), SL_EINVAL);
    assert_int_equal(read_all("--kv-cache-bytes 99999999999999T", NULL, &c, &err), SL_EINVAL);
    assert_true(good("--gpu-memory-utilization 1", NULL).gpu_memory_utilization == 1.0);
    assert_int_equal(read_all("--gpu-memory-utilization 0", NULL, &c, &err), SL_EINVAL);
    assert_int_equal(read_all("--gpu-memory-utilization 1.01", NULL, &c, &err), SL_EINVAL);
    assert_int_equal(read_all("--gpu-memory-utilization nan", NULL, &c, &err), SL_EINVAL);
}

static void test_mistakes_are_explained(void **state)
{
    static const struct {
        const char *line, *variables, *want, *also;
    } one[] = {
        {"--prot 1", NULL, "--prot", "--port"},
        {"--modle x", NULL, "--modle", "--model"},
        {"--max_num_seqs 1", NULL, "--max_num_seqs", "--max-num-seqs"},
        {"--no-port", NULL, "--no-port", "did you mean"},
        {"--port", NULL, "--port", "needs a value"},
        {"--port x", NULL, "--port", "'x' is not a number from 0 to 65535"},
        {"--port -1", NULL, "--port", "-1"},
        {"--port 1.5", NULL, "--port", "1.5"},
        {"--port=", NULL, "--port", "''"},
        {"--device tpu", NULL, "--device", "auto|cpu|cuda"},
        {"--device cp", NULL, "--device", "auto|cpu|cuda"},
        {"--kv-cache-bytes 1X", NULL, "--kv-cache-bytes", "512M"},
        {"--insecure=maybe", NULL, "--insecure", "true or false"},
        {"--check=yes", NULL, "--check", "takes no value"},
        {"-x", NULL, "-x", "--help"},
        {"a b", NULL, "one model only", "'b'"},
        {"--api-key sk-123", NULL, "--api-key-file", "everyone"},
        {"--api-key=sk-123", NULL, "--api-key-file", "everyone"},
        {"", "SLUICE_API_KEY=sk", "SLUICE_API_KEY_FILE", "SLUICE_API_KEY"},
        {"", "SLUICE_PROT=1", "SLUICE_PROT", "SLUICE_PORT"},
        {"", "SLUICE_PORT=many", "SLUICE_PORT", "'many'"},
        {"", "SLUICE_CHECK=1", "SLUICE_CHECK", "did you mean"},
        {"--max-num-seqs 256 --max-num-batched-tokens 255", NULL, "--max-num-batched-tokens",
         "256"},
        {"--tensor-parallel-size 2", NULL, "--tensor-parallel-size", "1 device"},
        {"--config /nowhere/x.conf", NULL, "/nowhere/x.conf", "No such file"},
        {"", "SLUICE_CONFIG=/nowhere/x.conf", "/nowhere/x.conf", "No such file"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(one) / sizeof(one[0]); i++) {
        sl_config c;
        sl_err err;

        assert_true(read_all(one[i].line, one[i].variables, &c, &err) != SL_OK);
        if (strstr(err.text, one[i].want) == NULL || strstr(err.text, one[i].also) == NULL)
            fail_msg("'%s': %s", one[i].line, err.text);
        assert_null(strstr(err.text, "sk-123"));
    }
}

static void test_mistakes_of_a_file_name_the_line(void **state)
{
    static const struct {
        const char *text, *want, *also;
    } one[] = {
        {"port = 1\nprot = 2\n", "line 2", "'port'"},
        {"[s]\n\nport = x\n", "line 3", "'x' is not a number"},
        {"port = 1\nport = 2\n", "line 2", "line 1 already"},
        {"port 1\n", "line 1", "key = value"},
        {"[open\n", "line 1", "key = value"},
        {"api_key = sk\n", "line 1", "api_key_file"},
        {"check = yes\n", "line 1", "command line only"},
        {"config = x\n", "line 1", "command line only"},
        {"\nmodel = "
         "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
         "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
         "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n",
         "line 2", "longer than"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(one) / sizeof(one[0]); i++) {
        char line[128];
        sl_config c;
        sl_err err;

        write_file(one[i].text);
        snprintf(line, sizeof(line), "--config %s", path);
        assert_int_equal(read_all(line, NULL, &c, &err), SL_EINVAL);
        unlink(path);
        if (strstr(err.text, one[i].want) == NULL || strstr(err.text, one[i].also) == NULL ||
            strstr(err.text, path) == NULL)
            fail_msg("'%s': %s", one[i].text, err.text);
    }
}

static void test_values_that_a_file_could_not_hold_are_refused(void **state)
{
    static const char *const bad[] = {" x", "x ", "a\nb", "a ;b", ";a", "a\tb"};
    char *argv[] = {(char *)(uintptr_t) "serve", (char *)(uintptr_t) "--model", NULL};
    char longest[SL_CONFIG_TEXT_MAX + 1];
    sl_config c;
    sl_err err;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        argv[2] = (char *)(uintptr_t)bad[i];
        assert_int_equal(sl_config_read(3, argv, NULL, &c, &err), SL_EINVAL);
    }
    memset(longest, 'x', sizeof(longest));
    longest[SL_CONFIG_TEXT_MAX] = '\0';
    argv[2] = longest;
    assert_int_equal(sl_config_read(3, argv, NULL, &c, &err), SL_EINVAL);
    longest[SL_CONFIG_TEXT_MAX - 1] = '\0';
    assert_int_equal(sl_config_read(3, argv, NULL, &c, &err), SL_OK);
    assert_string_equal(c.model, longest);
}

/* Kubernetes sets SLUICE_PORT=tcp://... and more for a service of that name. */
static void test_variables_of_others_are_left_alone(void **state)
{
    const sl_config c = good("", "SLUICE_SERVICE_HOST=10.0.0.1|SLUICE_PORT=tcp://10.0.0.1:80|"
                                 "SLUICE_PORT_80_TCP=x|SLUICE_SOURCE_ROOT=/x|PATH=/bin|SLUICER=1|"
                                 "SLUICE_HOST=::1");

    (void)state;
    assert_int_equal(c.port, 8000);
    assert_string_equal(c.host, "::1");
}

static void test_help_wins_over_mistakes(void **state)
{
    (void)state;
    assert_true(good("--nonsense --help", NULL).help);
    assert_true(good("-h", "SLUICE_NONSENSE=1").help);
}

static void test_the_output_is_untouched_on_failure(void **state)
{
    sl_config c;
    sl_err err;

    (void)state;
    memset(&c, 0xA5, sizeof(c));
    assert_int_equal(read_all("--port 3 --device tpu", NULL, &c, &err), SL_EINVAL);
    for (size_t i = 0; i < sizeof(c); i++)
        assert_int_equal(((const unsigned char *)&c)[i], 0xA5);
}

static void test_what_is_printed_reads_back(void **state)
{
    sl_config a = good("--model /x/y.gguf --port 81 --kv-cache-bytes 3G --no-pin-threads "
                       "--gpu-memory-utilization 0.123456789 --policy mixed --uds /run/s",
                       "SLUICE_MAX_NUM_SEQS=9|SLUICE_STRICT_PARAMS=on");
    char line[128], *text = NULL;
    size_t n = 0;
    sl_config b;
    FILE *f = open_memstream(&text, &n);

    (void)state;
    sl_config_print(&a, f);
    fclose(f);
    assert_non_null(strstr(text, "port = 81 ; command line"));
    assert_non_null(strstr(text, "max_num_seqs = 9 ; environment"));
    assert_non_null(strstr(text, "host = 127.0.0.1 ; default"));
    assert_non_null(strstr(text, "kv_cache_bytes = 3G ; command line"));
    write_file(text);
    snprintf(line, sizeof(line), "--config %s", path);
    b = good(line, NULL);
    unlink(path);
    free(text);
    memcpy(b.source, a.source, sizeof(b.source));
    memcpy(b.config, a.config, sizeof(b.config));
    assert_memory_equal(&a, &b, sizeof(a));
}

static void test_the_help_names_every_option(void **state)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    (void)state;
    sl_config_help(f);
    fclose(f);
    assert_non_null(strstr(text, "--model FILE, -m"));
    assert_non_null(strstr(text, "--[no-]pin-threads"));
    assert_non_null(strstr(text, "--policy sluice|mixed|exclusive"));
    assert_non_null(strstr(text, "[8000]"));
    assert_null(strstr(text, "(null)"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_each_source_wins_over_those_below),
        cmocka_unit_test(test_forms_of_options),
        cmocka_unit_test(test_limits_at_their_ends),
        cmocka_unit_test(test_mistakes_are_explained),
        cmocka_unit_test(test_mistakes_of_a_file_name_the_line),
        cmocka_unit_test(test_values_that_a_file_could_not_hold_are_refused),
        cmocka_unit_test(test_variables_of_others_are_left_alone),
        cmocka_unit_test(test_help_wins_over_mistakes),
        cmocka_unit_test(test_the_output_is_untouched_on_failure),
        cmocka_unit_test(test_what_is_printed_reads_back),
        cmocka_unit_test(test_the_help_names_every_option),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
