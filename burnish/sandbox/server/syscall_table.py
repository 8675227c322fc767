"""Numbers of system calls: name, number on x86_64, number on aarch64 (-: there is none). From the kernel's headers."""

from __future__ import annotations

_MACHINES = ("x86_64", "aarch64")

ALLOWED = """
    read:0:63 write:1:64 readv:19:65 writev:20:66 pread64:17:67 pwrite64:18:68 preadv:295:69 pwritev:296:70
    preadv2:327:286 pwritev2:328:287 close:3:57 close_range:436:436 open:2:- openat:257:56 openat2:437:437
    creat:85:- stat:4:- fstat:5:80 lstat:6:- newfstatat:262:79 statx:332:291 access:21:- faccessat:269:48
    faccessat2:439:439 readlink:89:- readlinkat:267:78 getdents:78:- getdents64:217:61 lseek:8:62 mmap:9:222
    mprotect:10:226 munmap:11:215 mremap:25:216 madvise:28:233 brk:12:214 msync:26:227 mincore:27:232
    membarrier:324:283 rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigreturn:15:139 rt_sigpending:127:136
    rt_sigtimedwait:128:137 rt_sigsuspend:130:133 sigaltstack:131:132 pause:34:- alarm:37:- getitimer:36:102
    setitimer:38:103 poll:7:- ppoll:271:73 select:23:- pselect6:270:72 epoll_create:213:- epoll_create1:291:20
    epoll_ctl:233:21 epoll_wait:232:- epoll_pwait:281:22 epoll_pwait2:441:441 eventfd:284:- eventfd2:290:19
    timerfd_create:283:85 timerfd_settime:286:86 timerfd_gettime:287:87 signalfd:282:- signalfd4:289:74 pipe:22:-
    pipe2:293:59 dup:32:23 dup2:33:- dup3:292:24 fcntl:72:25 flock:73:32 fsync:74:82 fdatasync:75:83
    sync_file_range:277:84 truncate:76:45 ftruncate:77:46 fallocate:285:47 fadvise64:221:223 rename:82:-
    renameat:264:38 renameat2:316:276 mkdir:83:- mkdirat:258:34 rmdir:84:- unlink:87:- unlinkat:263:35 link:86:-
    linkat:265:37 symlink:88:- symlinkat:266:36 chmod:90:- fchmod:91:52 fchmodat:268:53 umask:95:166 utime:132:-
    utimes:235:- utimensat:280:88 futimesat:261:- chdir:80:49 fchdir:81:50 getcwd:79:17 statfs:137:43 fstatfs:138:44
    getxattr:191:8 lgetxattr:192:9 fgetxattr:193:10 listxattr:194:11 llistxattr:195:12 flistxattr:196:13
    sendfile:40:71
    copy_file_range:326:285 splice:275:76 tee:276:77 getpid:39:172 gettid:186:178 getppid:110:173 getpgrp:111:-
    getpgid:121:155 getsid:124:156 setsid:112:157 setpgid:109:154 getuid:102:174 geteuid:107:175 getgid:104:176
    getegid:108:177 getresuid:118:148 getresgid:120:150 getgroups:115:158 capget:125:90 getpriority:140:141
    sched_getaffinity:204:123 sched_getparam:143:121 sched_getscheduler:145:120 sched_get_priority_max:146:125
    sched_get_priority_min:147:126 sched_yield:24:124 getcpu:309:168 getrusage:98:165 times:100:153 uname:63:160
    sysinfo:99:179 getrlimit:97:163 get_mempolicy:239:236 clock_gettime:228:113 clock_getres:229:114
    clock_nanosleep:230:115 nanosleep:35:101 gettimeofday:96:169 time:201:- timer_create:222:107
    timer_settime:223:110 timer_gettime:224:108 timer_getoverrun:225:109 timer_delete:226:111 futex:202:98
    futex_waitv:449:449 set_robust_list:273:99 get_robust_list:274:100 set_tid_address:218:96 rseq:334:293
    arch_prctl:158:- restart_syscall:219:128 exit:60:93 exit_group:231:94 wait4:61:260 waitid:247:95
    getrandom:318:278 socketpair:53:199 sendto:44:206 recvfrom:45:207 sendmsg:46:211 recvmsg:47:212 sendmmsg:307:269
    recvmmsg:299:243 shutdown:48:210 getsockname:51:204 getpeername:52:205 getsockopt:55:209 setsockopt:54:208
    ioctl:16:29
"""
"""What programs need, and what concerns no other process."""

FATAL = """
    ptrace:101:117 process_vm_readv:310:270 process_vm_writev:311:271 mount:165:40 umount2:166:39 pivot_root:155:41
    chroot:161:51 unshare:272:97 setns:308:268 open_tree:428:428 move_mount:429:429 fsopen:430:430 fsmount:432:432
    fsconfig:431:431 fspick:433:433 mount_setattr:442:442 bpf:321:280 kexec_load:246:104 kexec_file_load:320:294
    init_module:175:105 finit_module:313:273 delete_module:176:106 reboot:169:142 swapon:167:224 swapoff:168:225
    acct:163:89 keyctl:250:219 add_key:248:217 request_key:249:218 open_by_handle_at:304:- name_to_handle_at:303:-
    settimeofday:164:170 clock_settime:227:112 adjtimex:159:171 clock_adjtime:305:266 sethostname:170:161
    setdomainname:171:162 iopl:172:- ioperm:173:- pidfd_send_signal:424:424 pidfd_getfd:438:438
    process_madvise:440:440 kcmp:312:272 vhangup:153:58 quotactl:179:60 lookup_dcookie:212:18 nfsservctl:180:42
"""
"""What no program needs: it is killed."""

CHECKED = """
    clone:56:220 clone3:435:435 fork:57:- vfork:58:- execve:59:221 execveat:322:281 prctl:157:167 prlimit64:302:261
    kill:62:129 tkill:200:130 tgkill:234:131 socket:41:198
"""
"""Calls whose permission depends on their arguments or on the limits, see `seccomp`."""


def numbers(table: str, machine: str) -> dict[str, int]:
    """Name → number of the calls of a table that a machine has."""
    column = 1 + _MACHINES.index(machine)
    rows = (entry.split(":") for entry in table.split())
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}
