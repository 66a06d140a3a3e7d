/*
 * Preloaded into the processes of a destination: the first that is about to tell of the commit dies
 * instead, with the commit in its page map. The file that VMHOP_TEST_DEATH names says that it did.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int tells_of_the_commit(const struct msghdr* message) {
  static const char told[] = "\"event\":\"commit\"";
  return message->msg_iovlen == 1 && memmem(message->msg_iov->iov_base, message->msg_iov->iov_len,
                                            told, sizeof told - 1) != NULL;
}

static int is_the_first(void) {
  const char* death = getenv("VMHOP_TEST_DEATH");
  return death != NULL && open(death, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) >= 0;
}

ssize_t sendmsg(int socket, const struct msghdr* message, int flags) {
  if (tells_of_the_commit(message) && is_the_first()) {
    kill(getpid(), SIGKILL);
  }
  return syscall(SYS_sendmsg, socket, message, flags);
}
