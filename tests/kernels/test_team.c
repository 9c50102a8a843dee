/* tests/kernels/test_team.c
 *
 * Goal: barriers separate what was written before from what is read after, pieces go to exactly one
 * member each, shares cover everything once; with more members than cores, too.
 * Method: many short rounds with counters that only come out right if nobody ran ahead. */
#include "tests/kernels/support.h"

enum { ROUNDS = 300, PIECES_MAX = 40 };

typedef struct stress {
    uint32_t slot[TEAM_TEST_MAX]; /* plain memory: only the barrier orders it */
    uint32_t wrong[TEAM_TEST_MAX];
    atomic_uint taken[PIECES_MAX];
} stress;

/* Everyone writes its slot, then reads all slots. */
static void write_then_read(void *arg, sl_stream *stream)
{
    stress *s = arg;
    const uint32_t size = sl_stream_size(stream);

    for (uint32_t round = 1; round <= ROUNDS; round++) {
        s->slot[stream->rank] = round;
        sl_stream_barrier(stream);
        for (uint32_t i = 0; i < size; i++)
            s->wrong[stream->rank] += s->slot[i] != round;
        sl_stream_barrier(stream);
    }
}

static void barriers_order_memory(void **state)
{
    (void)state;
    for (uint32_t size = 0; size <= TEAM_TEST_MAX; size++) {
        stress s = {{0}};

        test_run_team(size, 64, write_then_read, &s);
        for (uint32_t i = 0; i < size; i++)
            assert_int_equal(s.wrong[i], 0);
    }
}

/* A member that comes late makes the others sleep; nobody is lost. */
static void sometimes_late(void *arg, sl_stream *stream)
{
    stress *s = arg;

    for (uint32_t round = 0; round < 40; round++) {
        if (round % sl_stream_size(stream) == stream->rank) {
            atomic_uint word;

            atomic_init(&word, 0);
            sl_futex_wait(&word, 0, 2000);
        }
        s->slot[stream->rank] = round;
        sl_stream_barrier(stream);
        for (uint32_t i = 0; i < sl_stream_size(stream); i++)
            s->wrong[stream->rank] += s->slot[i] != round;
        sl_stream_barrier(stream);
    }
}

static void sleepers_are_woken(void **state)
{
    (void)state;
    for (uint32_t size = 1; size <= 4; size++) {
        stress s = {{0}};

        test_run_team(size, 64, sometimes_late, &s);
        for (uint32_t i = 0; i < size; i++)
            assert_int_equal(s.wrong[i], 0);
    }
}

/* Operation after operation takes pieces, of changing number, with one barrier each. */
static void take_pieces(void *arg, sl_stream *stream)
{
    stress *s = arg;

    for (uint32_t round = 0; round < ROUNDS; round++) {
        const uint32_t count = round % (PIECES_MAX + 1);
        uint32_t piece;

        while ((piece = sl_stream_take(stream, count)) != UINT32_MAX) {
            if (piece >= count) {
                s->wrong[stream->rank]++;
                continue;
            }
            atomic_fetch_add_explicit(&s->taken[piece], 1, memory_order_relaxed);
        }
        sl_stream_barrier(stream);
    }
}

static void every_piece_is_taken_once(void **state)
{
    (void)state;
    for (uint32_t size = 0; size <= 5; size++) {
        stress s = {{0}};

        test_run_team(size, 64, take_pieces, &s);
        for (uint32_t p = 0; p < PIECES_MAX; p++) {
            uint32_t want = 0;

            for (uint32_t round = 0; round < ROUNDS; round++)
                want += p < round % (PIECES_MAX + 1);
            assert_int_equal(atomic_load(&s.taken[p]), want);
        }
        for (uint32_t i = 0; i < TEAM_TEST_MAX; i++)
            assert_int_equal(s.wrong[i], 0);
    }
}

/* The counter of pieces may pass 2^32. */
static void the_piece_counter_may_wrap(void **state)
{
    sl_team team;
    sl_stream stream;
    (void)state;

    sl_team_init(&team, 1);
    atomic_store(&team.next, UINT32_MAX - 3);
    sl_stream_init(&stream, &team, 0, NULL, 0);
    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < 5; i++)
            assert_int_equal(sl_stream_take(&stream, 5), i);
        assert_int_equal(sl_stream_take(&stream, 5), UINT32_MAX);
        sl_stream_barrier(&stream);
    }
}

static void shares_cover_everything_once(void **state)
{
    static const uint32_t counts[] = {0, 1, 2, 7, 8, 9, 64, 1000};
    static const uint32_t grains[] = {1, 3, 8, 64};
    (void)state;

    for (uint32_t size = 1; size <= 5; size++)
        for (size_t c = 0; c < 8; c++)
            for (size_t g = 0; g < 4; g++) {
                uint32_t at = 0;
                sl_team team;

                sl_team_init(&team, size);
                for (uint32_t rank = 0; rank < size; rank++) {
                    sl_stream stream;
                    uint32_t first, count;

                    sl_stream_init(&stream, &team, rank, NULL, 0);
                    count = sl_stream_share(&stream, counts[c], grains[g], &first);
                    assert_int_equal(first, at);
                    assert_true(first % grains[g] == 0 || first == counts[c]);
                    at += count;
                }
                assert_int_equal(at, counts[c]);
            }
}

static void a_stream_on_its_own_needs_no_team(void **state)
{
    sl_stream stream;
    uint32_t first;
    (void)state;

    sl_stream_init(&stream, NULL, 0, NULL, 0);
    assert_int_equal(sl_stream_size(&stream), 1);
    sl_stream_barrier(&stream);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(sl_stream_take(&stream, 2), 0);
        assert_int_equal(sl_stream_take(&stream, 2), 1);
        assert_int_equal(sl_stream_take(&stream, 2), UINT32_MAX);
    }
    assert_int_equal(sl_stream_share(&stream, 9, 8, &first), 9);
    assert_int_equal(first, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(barriers_order_memory),
        cmocka_unit_test(sleepers_are_woken),
        cmocka_unit_test(every_piece_is_taken_once),
        cmocka_unit_test(the_piece_counter_may_wrap),
        cmocka_unit_test(shares_cover_everything_once),
        cmocka_unit_test(a_stream_on_its_own_needs_no_team),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
