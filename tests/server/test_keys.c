/* Goal: SHA-256 is SHA-256; keys are found, others are not, and files with faults are refused.
 * Method: vectors of FIPS 180-4 and of NIST's message files; generated key files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "server/keys.h"
#include "server/sha256.h"

static void assert_digest(const void *data, size_t n, const char *hex)
{
    uint8_t digest[SL_SHA256_BYTES];
    char text[2 * SL_SHA256_BYTES + 1];

    sl_sha256_of(data, n, digest);
    for (int i = 0; i < SL_SHA256_BYTES; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    assert_string_equal(text, hex);
}

static void test_sha256_vectors(void **state)
{
    static char million[1000000];

    (void)state;
    memset(million, 'a', sizeof(million));
    assert_digest("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_digest("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
                  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    assert_digest("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmno"
                  "ijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
                  112, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
    assert_digest(million, sizeof(million),
                  "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    assert_digest("\xd3", 1, "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1");
}

/* Every length around the block and padding boundaries, in every split into two. */
static void test_sha256_does_not_depend_on_splits(void **state)
{
    uint8_t data[200], whole[SL_SHA256_BYTES], split[SL_SHA256_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7);
    for (size_t n = 0; n <= sizeof(data); n++) {
        sl_sha256_of(data, n, whole);
        for (size_t at = 0; at <= n; at++) {
            sl_sha256 hash;

            sl_sha256_init(&hash);
            sl_sha256_add(&hash, data, at);
            sl_sha256_add(&hash, data + at, n - at);
            sl_sha256_done(&hash, split);
            assert_memory_equal(whole, split, sizeof(whole));
        }
    }
}

static char path[64];

static void write_file(const char *text, size_t n)
{
    FILE *f;
    int fd;

    strcpy(path, "/tmp/sluice-keys-XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    f = fdopen(fd, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    fclose(f);
}

static sl_status create(const char *text, sl_keys **keys, sl_err *err)
{
    sl_status status;

    write_file(text, strlen(text));
    status = sl_keys_create(path, keys, err);
    unlink(path);
    return status;
}

static uint32_t find(const sl_keys *keys, const char *key)
{
    return sl_keys_find(keys, key, strlen(key));
}

static void test_keys_are_found_and_others_are_not(void **state)
{
    sl_keys *keys = NULL;

    (void)state;
    assert_int_equal(create("# first\n\n  alpha-1 \r\n\tbeta#2\nlast", &keys, NULL), SL_OK);
    assert_int_equal(sl_keys_count(keys), 3);
    assert_int_equal(find(keys, "alpha-1"), 0);
    assert_int_equal(find(keys, "beta#2"), 1);
    assert_int_equal(find(keys, "last"), 2);
    assert_int_equal(find(keys, ""), SL_KEY_NONE);
    assert_int_equal(find(keys, "alpha-"), SL_KEY_NONE);
    assert_int_equal(find(keys, "alpha-11"), SL_KEY_NONE);
    assert_int_equal(find(keys, "Alpha-1"), SL_KEY_NONE);
    assert_int_equal(find(keys, "# first"), SL_KEY_NONE);
    sl_keys_destroy(keys);
}

static void test_faulty_key_files_are_refused(void **state)
{
    sl_keys *keys = NULL;
    sl_err err;
    char *many = malloc(SL_KEYS_MAX * 8 + 64), *at = many;

    (void)state;
    assert_int_equal(sl_keys_create("/nowhere/keys", &keys, &err), SL_EIO);
    assert_non_null(strstr(err.text, "/nowhere/keys"));
    assert_int_equal(create("", &keys, &err), SL_EINVAL);
    assert_int_equal(create("# only a comment\n", &keys, &err), SL_EINVAL);
    assert_int_equal(create("good\nsecret key\n", &keys, &err), SL_EINVAL);
    assert_non_null(strstr(err.text, "line 2"));
    assert_null(strstr(err.text, "secret"));
    assert_int_equal(create("caf\xC3\xA9\n", &keys, &err), SL_EINVAL);
    for (int i = 0; i < SL_KEYS_MAX; i++)
        at += sprintf(at, "k%d\n", i);
    assert_int_equal(create(many, &keys, &err), SL_OK);
    assert_int_equal(find(keys, "k1023"), SL_KEYS_MAX - 1);
    sl_keys_destroy(keys);
    keys = NULL;
    strcpy(at, "one-more\n");
    assert_int_equal(create(many, &keys, &err), SL_EINVAL);
    memset(many, 'x', SL_KEY_BYTES_MAX + 1);
    many[SL_KEY_BYTES_MAX + 1] = '\0';
    assert_int_equal(create(many, &keys, &err), SL_EINVAL);
    many[SL_KEY_BYTES_MAX] = '\0';
    assert_int_equal(create(many, &keys, &err), SL_OK);
    sl_keys_destroy(keys);
    free(many);
}

static void test_every_allocation_may_fail(void **state)
{
    sl_keys *keys = NULL;

    (void)state;
    for (uint64_t n = 1; n <= 2; n++) {
        sl_err err;

        write_file("key\n", 4);
        sl_alloc_fail_at(n);
        assert_int_equal(sl_keys_create(path, &keys, &err), SL_ENOMEM);
        sl_alloc_fail_at(0);
        unlink(path);
        assert_null(keys);
    }
}

static void test_the_key_of_a_request(void **state)
{
    size_t n = 99;

    (void)state;
    assert_string_equal(sl_keys_presented("Bearer abc", NULL, &n), "abc");
    assert_int_equal(n, 3);
    assert_string_equal(sl_keys_presented("bearer  abc", "other", &n), "abc");
    assert_string_equal(sl_keys_presented(NULL, "xyz", &n), "xyz");
    assert_string_equal(sl_keys_presented("Basic abc", "xyz", &n), "xyz");
    assert_null(sl_keys_presented("Basic abc", NULL, &n));
    assert_null(sl_keys_presented(NULL, NULL, &n));
    assert_string_equal(sl_keys_presented("Bearer ", "xyz", &n), "");
}

static void test_salts_separate_keys_and_salts(void **state)
{
    const uint8_t secret[32] = {1}, other[32] = {2};
    sl_keys *keys = NULL;

    (void)state;
    assert_int_equal(create("a\nb\n", &keys, NULL), SL_OK);
    assert_int_equal(sl_keys_salt(keys, SL_KEY_NONE, NULL, secret), 0);
    assert_true(sl_keys_salt(keys, 0, NULL, secret) != 0);
    assert_true(sl_keys_salt(keys, 0, NULL, secret) != sl_keys_salt(keys, 1, NULL, secret));
    assert_true(sl_keys_salt(keys, 0, NULL, secret) != sl_keys_salt(keys, 0, "s", secret));
    assert_true(sl_keys_salt(keys, 0, NULL, secret) != sl_keys_salt(keys, 0, NULL, other));
    assert_true(sl_keys_salt(NULL, SL_KEY_NONE, "s", secret) != 0);
    assert_true(sl_keys_salt(keys, 0, "s", secret) == sl_keys_salt(keys, 0, "s", secret));
    sl_keys_destroy(keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256_vectors),
        cmocka_unit_test(test_sha256_does_not_depend_on_splits),
        cmocka_unit_test(test_keys_are_found_and_others_are_not),
        cmocka_unit_test(test_faulty_key_files_are_refused),
        cmocka_unit_test(test_every_allocation_may_fail),
        cmocka_unit_test(test_the_key_of_a_request),
        cmocka_unit_test(test_salts_separate_keys_and_salts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
