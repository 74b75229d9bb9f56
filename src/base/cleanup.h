/* Scope attributes: release at the end of the scope, one style everywhere. */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free(void *p)
{
    free(*(void **)p);
}

static inline void cleanup_close(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
}

static inline void cleanup_unlock(pthread_mutex_t **m)
{
    if (*m) {
        pthread_mutex_unlock(*m);
    }
}

static inline pthread_mutex_t *cleanup_lock(pthread_mutex_t *m)
{
    pthread_mutex_lock(m);
    return m;
}

#define AUTO_FREE __attribute__((cleanup(cleanup_free)))
#define AUTO_CLOSE __attribute__((cleanup(cleanup_close)))
/* AUTO_LOCK(&x->lock); holds the mutex to the end of the scope. */
#define AUTO_LOCK(m)                                                                               \
    pthread_mutex_t *auto_lock_ __attribute__((cleanup(cleanup_unlock), unused)) = cleanup_lock(m)

#endif
