"""A program that is hard to end."""

#: It ignores SIGTERM, and so do a child of it in another session, and a grandchild whose parent is gone. Each
#: is told on a line, as `child 17`; once all are, what is appended goes on.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(600)"
start = dict(stdout=subprocess.PIPE, start_new_session=True)
child = subprocess.Popen([sys.executable, "-c", code], **start)
child.stdout.readline()
if os.fork() == 0:
    os.setsid()
    grandchild = subprocess.Popen([sys.executable, "-c", code], **start)
    grandchild.stdout.readline()
    os.write(1, f"orphan {grandchild.pid}\\n".encode())
    os._exit(0)
os.wait()
print("child", child.pid, flush=True)
print("self", os.getpid(), flush=True)
"""
