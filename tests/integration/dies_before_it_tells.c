/*
 * Preloaded into the processes of a host: the first that is about to tell of the event
 * VMHOP_TEST_EVENT dies instead, with what it would have told of in its files. Where
 * VMHOP_TEST_THEN is "stop" it is stopped there, for a test to kill whom it likes, and tells when
 * it is continued; where it is "stop after" it has told already when it is stopped. The file that
 * VMHOP_TEST_DEATH names has its process id.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int tells_of_the_event(const struct msghdr* message) {
  const char* event = getenv("VMHOP_TEST_EVENT");
  char told[64];
  if (event == NULL || message->msg_iovlen != 1) return 0;
  int length = snprintf(told, sizeof told, "\"event\":\"%s\"", event);
  return memmem(message->msg_iov->iov_base, message->msg_iov->iov_len, told, (size_t)length) !=
         NULL;
}

static int is_the_first(void) {
  const char* death = getenv("VMHOP_TEST_DEATH");
  if (death == NULL) return 0;
  int file = open(death, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file < 0) return 0;
  dprintf(file, "%d\n", (int)getpid());
  close(file);
  return 1;
}

static int then_it(const char* what) {
  const char* then = getenv("VMHOP_TEST_THEN");
  return then != NULL && strcmp(then, what) == 0;
}

ssize_t sendmsg(int socket, const struct msghdr* message, int flags) {
  int chosen = tells_of_the_event(message) && is_the_first();
  if (chosen && !then_it("stop after")) {
    kill(getpid(), then_it("stop") ? SIGSTOP : SIGKILL);
  }
  ssize_t sent = syscall(SYS_sendmsg, socket, message, flags);
  if (chosen && then_it("stop after")) kill(getpid(), SIGSTOP);
  return sent;
}
