@echo off
rem The same as scripts/up, for Windows.
setlocal
call "%~dp0python.cmd" || exit /b 1
%LAB_PYTHON% "%~dp0run.py" up %*
exit /b %ERRORLEVEL%
